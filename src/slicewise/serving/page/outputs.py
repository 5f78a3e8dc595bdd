"""How the page shows a finding."""

import base64
from typing import Any, Final

import altair as alt
import streamlit as st

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.serving.page.client import ApiClient
from slicewise.serving.page.inputs import PREDICTION_KEY

_LAYERS: Final = {"Tumour": "overlay", "Evidence (Grad-CAM)": "gradcam", "Image": "plain"}
_LAYER_HELP: Final = (
    "Tumour: the mask. Evidence: which places raised the probability of a tumour most, relative to the "
    "slice. Image: as it is."
)
_VOLUME_SIDES: Final = "Seen from the feet: R is the patient's right, L the left."
_PICTURE_SIDES: Final = "Left and right as in your picture."
_TUMOUR: Final = "#c2410c"
_GREY: Final = "#94a3b8"
_INK: Final = "#334155"


def render_prediction(client: ApiClient, info: dict[str, Any]) -> None:
    """Draw the session's last finding, if there is one."""
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
        f"Examined in {prediction['seconds']:.1f} s by model {prediction['fingerprint'][:12]}. "
        f"{info['notice']}"
    )


def _show_metrics(prediction: dict[str, Any], *mask_metrics: tuple[str, str]) -> None:
    for task in prediction["not_trained"]:
        st.info(f"{task.capitalize()} was not trained in this network: nothing is said of it.")
    metrics = mask_metrics if _has_segmentation(prediction) else ()
    if _has_classification(prediction):
        finding = "Tumour" if prediction["label"] == "tumour" else "No tumour"
        metrics = (
            ("Finding", finding),
            (_probability_label(prediction), f"{prediction['tumour_probability']:.1%}"),
            *metrics,
        )
    if metrics:
        for column, (name, value) in zip(st.columns(len(metrics)), metrics, strict=True):
            column.metric(name, value, border=True)


def _probability_label(prediction: dict[str, Any]) -> str:
    return "Tumour probability" if prediction["calibrated"] else "Tumour probability (raw)"


def _has_segmentation(prediction: dict[str, Any]) -> bool:
    return SEGMENTATION not in prediction["not_trained"]


def _has_classification(prediction: dict[str, Any]) -> bool:
    return CLASSIFICATION not in prediction["not_trained"]


def _select_layer(prediction: dict[str, Any]) -> str:
    """Ask what to draw over the image, of what was trained."""
    available = {
        "overlay": _has_segmentation(prediction),
        "gradcam": _has_classification(prediction),
        "plain": True,
    }
    names = [name for name, layer in _LAYERS.items() if available[layer]]
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
        _show_image(
            base64.b64decode(prediction[field]),
            f"{_layer_caption(prediction, layer, prediction['tumour_probability'])} {_PICTURE_SIDES}",
        )
    with right:
        if _has_segmentation(prediction):
            mask = base64.b64decode(prediction["mask_png"])
            st.download_button("Download the mask (PNG)", mask, "mask.png", "image/png", on_click="ignore")
        st.caption(_explanation(prediction))


def _show_volume(client: ApiClient, prediction: dict[str, Any]) -> None:
    largest = prediction["largest_slice"]
    _show_metrics(
        prediction,
        ("Tumour volume", f"{_format_value(prediction['tumour_ml'], '.1f')} ml"),
        ("Most tumour in slice", "–" if largest is None else str(largest)),
    )
    left, right = st.columns(2, gap="large")
    with left:
        layer = _select_layer(prediction)
        index = _select_slice(prediction)
        layer_caption = _layer_caption(prediction, layer, prediction["slices"][index]["probability"])
        _show_image(
            _slice_png(client, prediction["id"], index, layer),
            f"Slice {index}. {layer_caption} {_VOLUME_SIDES}",
        )
    with right:
        if _has_classification(prediction):
            name = _probability_label(prediction)
            curve = probability_curve(prediction["slices"], prediction["class_threshold"], index, name)
            st.altair_chart(curve, width="stretch")
        st.caption(_explanation(prediction))
        if _has_segmentation(prediction):
            mask = _mask_nifti(client, prediction["id"])
            st.download_button(
                "Download the mask (NIfTI)", mask, "mask.nii.gz", "application/gzip", on_click="ignore"
            )


def _format_value(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _show_image(png: bytes, caption: str) -> None:
    st.image(png, caption, width="stretch")


def _layer_caption(prediction: dict[str, Any], layer: str, probability: float | None) -> str:
    """Say what a layer shows of a slice or picture with this probability of a tumour."""
    if layer == "plain":
        return "The image as it is."
    if layer == "overlay":
        return "Orange: the mask."
    threshold = prediction["class_threshold"]
    if probability is None or probability < threshold:
        return f"Below {threshold:.0%} no evidence is shown: the network does not call this a tumour."
    return "Evidence for a tumour (Grad-CAM), relative to this slice: brightest where it is strongest."


def _select_slice(prediction: dict[str, Any]) -> int:
    """Ask for a slice where there are two or more; Streamlit refuses a slider that cannot move."""
    last, first = prediction["num_slices"] - 1, _first_slice(prediction)
    return st.slider("Slice", 0, last, first, key=f"slice-{prediction['id']}") if last else first


def _first_slice(prediction: dict[str, Any]) -> int:
    return int(
        prediction["key_slices"][0]["index"]
        if prediction["largest_slice"] is None
        else prediction["largest_slice"]
    )


def _explanation(prediction: dict[str, Any]) -> str:
    modalities = ", ".join(modality.upper() for modality in prediction["modalities"])
    sentences = [f"Read as {modalities}."]
    if _has_classification(prediction):
        scale = "calibrated" if prediction["calibrated"] else "raw, not calibrated"
        sentences += [
            f"A tumour is reported from a probability of {prediction['class_threshold']:.0%} ({scale})."
        ]
    if _has_segmentation(prediction):
        sentences += [f"A pixel is drawn from {prediction['mask_threshold']:.0%}."]
    sentences += [f"{prediction['origin'][:1].upper()}{prediction['origin'][1:]}."]
    if _has_classification(prediction) and _has_segmentation(prediction):
        sentences += ["Finding and mask are two answers of one network: where they disagree, trust neither."]
    return " ".join(sentences)


def _slice_png(client: ApiClient, result: str, index: int, layer: str) -> bytes:
    """Fetch a slice, and remember it while its result is shown: a slider is moved back and forth."""
    cache = _cached(result)
    if (index, layer) not in cache:
        cache[index, layer] = client.slice_png(result, index, layer)
    return cache[index, layer]


def _cached(result: str) -> dict[Any, bytes]:
    """Return the session's store for one result; that of an earlier one is dropped."""
    if st.session_state.get("kept", {}).get("result") != result:
        st.session_state["kept"] = {"result": result, "content": {}}
    content: dict[Any, bytes] = st.session_state["kept"]["content"]
    return content


def _mask_nifti(client: ApiClient, result: str) -> bytes:
    cache = _cached(result)
    if "mask" not in cache:
        cache["mask"] = client.mask_nifti(result)
    return cache["mask"]


def probability_curve(
    slices: list[dict[str, Any]], threshold: float, current: int, name: str = "Tumour probability"
) -> alt.LayerChart:
    """Return the tumour probability over the slices, with the threshold and the slice being looked at.

    A single slice has no curve: it becomes a dot in the middle of the chart.
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
    threshold_rule = alt.Chart(alt.InlineData([{"y": threshold}])).mark_rule(strokeDash=[4, 4], color=_GREY)
    current_rule = alt.Chart(alt.InlineData([{"x": current}])).mark_rule(color=_INK)
    layers = (area.encode(x=x, y=y), threshold_rule.encode(y="y:Q"), current_rule.encode(x="x:Q"))
    return alt.LayerChart(layer=layers, height=260)
