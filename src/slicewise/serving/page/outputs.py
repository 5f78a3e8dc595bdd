"""Outputs of the page: the prediction as metrics, pictures and a curve."""

import base64
from collections.abc import Callable, Hashable, Sequence
from itertools import cycle
from typing import Any, Final

import altair as alt
import streamlit as st

from slicewise.domain.classes import COLOUR_NAMES
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.serving.page.client import ApiClient
from slicewise.serving.page.inputs import PREDICTION_KEY

_LAYERS: Final = {"Tumour": "overlay", "Evidence (Grad-CAM)": "gradcam", "Image": "plain"}
_TASKS: Final = {"overlay": SEGMENTATION, "gradcam": CLASSIFICATION}
_LAYER_HELP: Final = (
    "Tumour: the mask. Evidence: the regions that raised the probability of the finding most, relative to "
    "the slice. Image: without overlay."
)
_TUMOUR: Final = "#c2410c"
_GREY: Final = "#94a3b8"
_INK: Final = "#334155"


def render_prediction(client: ApiClient, info: dict[str, Any]) -> None:
    """Show the session's last prediction, if there is one."""
    prediction = st.session_state.get(PREDICTION_KEY)
    if prediction is None:
        return
    st.subheader(prediction["name"], anchor=False)
    if prediction["warning"]:
        st.warning(prediction["warning"], icon=":material/warning:")
    for note in prediction["file_notes"]:
        st.warning(note, icon=":material/warning:")
    if prediction["kind"] == "picture":
        _show_picture(prediction)
    else:
        _show_volume(client, prediction)
    st.caption(
        f"Predicted in {prediction['seconds']:.1f} s by model {prediction['fingerprint'][:12]}. "
        f"{info['notice']}"
    )


def _show_metrics(prediction: dict[str, Any], *mask_metrics: tuple[str, str]) -> None:
    metrics = mask_metrics if SEGMENTATION in prediction["tasks"] else ()
    if CLASSIFICATION in prediction["tasks"]:
        finding = prediction["label"].replace("_", " ").capitalize()
        probability = f"{_probability(prediction):.1%}"
        metrics = (("Finding", finding), (_probability_label(prediction), probability), *metrics)
    _show_row(metrics)


def _show_row(metrics: Sequence[tuple[str, str]]) -> None:
    for column, (name, value) in zip(st.columns(len(metrics)), metrics, strict=True):
        column.metric(name, value, border=True)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _probability(prediction: dict[str, Any]) -> float:
    """Return the probability of tumour, or of the one of several classes that is the label."""
    shares = prediction["class_probabilities"]
    return float(shares[prediction["label"]] if shares else prediction["tumour_probability"])


def _probability_label(prediction: dict[str, Any]) -> str:
    label = "Its probability" if prediction["class_probabilities"] else "Tumour probability"
    return label if prediction["calibrated"] else f"{label} (raw)"


def _select_layer(prediction: dict[str, Any]) -> str:
    """Return the selected layer; those of absent tasks are not offered."""
    available = {"plain", *(layer for layer, task in _TASKS.items() if task in prediction["tasks"])}
    names = [name for name, layer in _LAYERS.items() if layer in available]
    layer = st.segmented_control(
        "Show", names, default=names[0], required=True, help=_LAYER_HELP, key="layer"
    )
    return _LAYERS[layer]


def _show_picture(prediction: dict[str, Any]) -> None:
    _show_metrics(prediction, ("Tumour share of the brain", _format_value(prediction["tumour_share"], ".1%")))
    left, right = st.columns([3, 2], gap="large")
    with left:
        layer = _select_layer(prediction)
        field = {"overlay": "overlay_png", "gradcam": "gradcam_png", "plain": "picture_png"}[layer]
        is_classified = CLASSIFICATION in prediction["tasks"]
        caption = _layer_caption(prediction, layer, _probability(prediction) if is_classified else None)
        caption += " Left and right as in your picture."
        st.image(base64.b64decode(prediction[field]), caption, width="stretch")
    with right:
        if SEGMENTATION in prediction["tasks"]:
            mask = base64.b64decode(prediction["mask_png"])
            st.download_button("Download the mask (PNG)", mask, "mask.png", "image/png", on_click="ignore")
        _show_classes(prediction)
        st.caption(_explanation(prediction))


def _show_volume(client: ApiClient, prediction: dict[str, Any]) -> None:
    key, largest = prediction["id"], prediction["largest_slice"]
    _show_metrics(
        prediction,
        ("Tumour volume", f"{_format_value(prediction['tumour_ml'], '.1f')} ml"),
        ("Most tumour in slice", "–" if largest is None else str(largest)),
    )
    if volumes := prediction["class_ml"]:
        _show_row(
            [(_words(name).capitalize(), f"{_format_value(ml, '.1f')} ml") for name, ml in volumes.items()]
        )
    left, right = st.columns(2, gap="large")
    with left:
        layer = _select_layer(prediction)
        last = prediction["num_slices"] - 1
        index = prediction["key_slices"][0]["index"] if largest is None else largest
        if last:  # Streamlit refuses a slider with a single position
            index = st.slider("Slice", 0, last, index, key=f"slice-{key}")
        layer_caption = _layer_caption(prediction, layer, prediction["slices"][index]["probability"])
        png = _cached(key, (index, layer), lambda: client.slice_png(key, index, layer))
        orientation = "Seen from the feet: R is the patient's right, L the left."
        st.image(png, f"Slice {index}. {layer_caption} {orientation}", width="stretch")
    with right:
        if CLASSIFICATION in prediction["tasks"]:
            name = _probability_label(prediction)
            curve = probability_curve(prediction["slices"], prediction["class_threshold"], index, name)
            st.altair_chart(curve, width="stretch")
        _show_classes(prediction)
        st.caption(_explanation(prediction))
        if SEGMENTATION in prediction["tasks"]:
            mask = _cached(key, "mask", lambda: client.mask_nifti(key))
            label, kind = "Download the mask (NIfTI)", "application/gzip"
            st.download_button(label, mask, "mask.nii.gz", kind, on_click="ignore")


def _show_classes(prediction: dict[str, Any]) -> None:
    """Show the probability of each of several classes as a bar."""
    if prediction["class_probabilities"]:
        st.altair_chart(class_bars(prediction["class_probabilities"]), width="stretch")


def class_bars(shares: dict[str, float]) -> alt.LayerChart:
    """Return a bar for the probability of each class, the most probable first."""
    rows = [{"class": name.replace("_", " "), "probability": share} for name, share in shares.items()]
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X("probability:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        y=alt.Y("class:N", title=None, sort="-x"),
    )
    text = base.mark_text(align="left", dx=4, color=_INK).encode(text=alt.Text("probability:Q", format=".1%"))
    bars = (base.mark_bar(color=_TUMOUR, opacity=0.8), text)
    return alt.LayerChart(layer=bars, height=40 * len(rows) + 30)


def _format_value(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _layer_caption(prediction: dict[str, Any], layer: str, probability: float | None) -> str:
    """Return the caption of a layer for a slice or picture with this tumour probability."""
    if layer == "plain":
        return "The image without overlay."
    if layer == "overlay":
        names = map(_words, prediction["mask_classes"] or ["the mask"])
        pairs = zip(cycle(COLOUR_NAMES), names, strict=False)
        return f"{', '.join(f'{colour}: {name}' for colour, name in pairs).capitalize()}."
    threshold = prediction["class_threshold"]
    if threshold is None:
        return "Evidence for the predicted class (Grad-CAM): brightest where it is strongest in this slice."
    if probability is None or probability < threshold:
        return f"Below {threshold:.0%} no evidence is shown: this slice is not labelled tumour."
    return "Evidence for a tumour (Grad-CAM), relative to this slice: brightest where it is strongest."


def _explanation(prediction: dict[str, Any]) -> str:
    modalities = ", ".join(modality.upper() for modality in prediction["modalities"])
    sentences = [f"Read as {modalities}."]
    if CLASSIFICATION in prediction["tasks"]:
        scale = "calibrated" if prediction["calibrated"] else "raw, not calibrated"
        threshold = prediction["class_threshold"]
        sentences += [
            f"The finding is the most probable class ({scale})."
            if threshold is None
            else f"The label is “tumour” from a probability of {threshold:.0%} ({scale})."
        ]
    if SEGMENTATION in prediction["tasks"]:
        common, own = prediction["mask_threshold"], prediction["class_mask_thresholds"]
        each = [f"{own.get(name, common):.0%} for {_words(name)}" for name in prediction["mask_classes"]]
        share = ", ".join(each) if own else f"{common:.0%}"
        sentences += [f"The mask holds pixels from a probability of {share}."]
    sentences += [f"{prediction['origin'][:1].upper()}{prediction['origin'][1:]}."]
    if {SEGMENTATION, CLASSIFICATION} <= {*prediction["tasks"]}:
        sentences += ["Finding and mask are two outputs of one model: if they disagree, trust neither."]
    return " ".join(sentences)


def _cached(result: str, key: Hashable, fetch: Callable[[], bytes]) -> bytes:
    """Return `fetch()` for this result and key, cached; entries of an earlier result are dropped."""
    if st.session_state.get("kept", {}).get("result") != result:
        st.session_state["kept"] = {"result": result, "content": {}}
    content: dict[Hashable, bytes] = st.session_state["kept"]["content"]
    if key not in content:
        content[key] = fetch()
    return content[key]


def probability_curve(
    slices: list[dict[str, Any]], threshold: float | None, current: int, name: str = "Tumour probability"
) -> alt.LayerChart:
    """Return the curve of the tumour probability over the slices, with the threshold and the current slice.

    A single slice becomes a dot in the middle of the chart.
    """
    single = len(slices) == 1
    rows = [{"slice": row["index"], "probability": row["probability"]} for row in slices]
    domain = [-0.5, 0.5] if single else [0, len(slices) - 1]
    slice_scale, share_scale = alt.Scale(domain=domain, nice=False), alt.Scale(domain=[0, 1])
    whole_slices = alt.Axis(tickMinStep=1, format="d")
    x = alt.X("slice:Q", title="Slice (feet to head)", scale=slice_scale, axis=whole_slices)
    y = alt.Y("probability:Q", title=name, scale=share_scale, axis=alt.Axis(format="%"))
    dot: Any = {"color": _TUMOUR} if single else False
    area = alt.Chart(alt.InlineData(rows)).mark_area(
        line={"color": _TUMOUR}, color=_TUMOUR, opacity=0.25, point=dot
    )
    lines = [] if threshold is None else [{"y": threshold}]
    threshold_rule = alt.Chart(alt.InlineData(lines)).mark_rule(strokeDash=[4, 4], color=_GREY)
    current_rule = alt.Chart(alt.InlineData([{"x": current}])).mark_rule(color=_INK)
    layers = (area.encode(x=x, y=y), threshold_rule.encode(y="y:Q"), current_rule.encode(x="x:Q"))
    return alt.LayerChart(layer=layers, height=260)
