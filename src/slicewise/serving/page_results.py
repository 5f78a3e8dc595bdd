"""How the page shows a finding."""

import base64
from typing import Any, Final

import altair as alt
import streamlit as st

from slicewise.core.labels import CLASSIFICATION, SEGMENTATION
from slicewise.serving.client import ApiClient
from slicewise.serving.page_inputs import ANSWER

_LAYERS: Final = {"Tumour": "overlay", "Evidence (Grad-CAM)": "gradcam", "Image": "plain"}
_LAYER_HELP: Final = (
    "Tumour: the mask. Evidence: which places raised the probability of a tumour most, relative to the "
    "slice. Image: as it is."
)
_SIDES: Final = "Seen from the feet: R is the patient's right, L the left."
_OWN_SIDES: Final = "Left and right as in your picture."
_TUMOUR: Final = "#c2410c"
_GREY: Final = "#94a3b8"
_INK: Final = "#334155"


def show(client: ApiClient, info: dict[str, Any]) -> None:
    """Draw the session's last finding, if there is one."""
    answer = st.session_state.get(ANSWER)
    if answer is None:
        return
    st.subheader(answer["name"], anchor=False)
    if answer["warning"]:
        st.warning(answer["warning"], icon=":material/warning:")
    for note in answer["file_notes"]:
        st.warning(note, icon=":material/warning:")
    if answer["kind"] == "picture":
        _show_picture(answer)
    else:
        _show_volume(client, answer)
    st.caption(
        f"Examined in {answer['seconds']:.1f} s by model {answer['fingerprint'][:12]}. {info['notice']}"
    )


def _show_verdict(answer: dict[str, Any], *of_mask: tuple[str, str]) -> None:
    for task in answer["not_trained"]:
        st.info(f"{task.capitalize()} was not trained in this network: nothing is said of it.")
    measures = of_mask if _has_mask(answer) else ()
    if _has_verdict(answer):
        finding = "Tumour" if answer["label"] == "tumour" else "No tumour"
        measures = (
            ("Finding", finding),
            (_probability_name(answer), f"{answer['tumour_probability']:.1%}"),
            *measures,
        )
    if measures:
        for column, (name, value) in zip(st.columns(len(measures)), measures, strict=True):
            column.metric(name, value, border=True)


def _probability_name(answer: dict[str, Any]) -> str:
    return "Tumour probability" if answer["calibrated"] else "Tumour probability (raw)"


def _has_mask(answer: dict[str, Any]) -> bool:
    return SEGMENTATION not in answer["not_trained"]


def _has_verdict(answer: dict[str, Any]) -> bool:
    return CLASSIFICATION not in answer["not_trained"]


def _choose_layer(answer: dict[str, Any]) -> str:
    """Ask what to draw over the image, of what was trained."""
    there = {"overlay": _has_mask(answer), "gradcam": _has_verdict(answer), "plain": True}
    names = [name for name, layer in _LAYERS.items() if there[layer]]
    layer = st.segmented_control(
        "Show", names, default=names[0], required=True, help=_LAYER_HELP, key="layer"
    )
    return _LAYERS[layer]


def _show_picture(answer: dict[str, Any]) -> None:
    _show_verdict(answer, ("Tumour share of the brain", _spelled(answer["tumour_share"], ".1%")))
    left, right = st.columns([3, 2], gap="large")
    with left:
        layer = _choose_layer(answer)
        field = {"overlay": "overlay_png", "gradcam": "gradcam_png", "plain": "picture_png"}[layer]
        _show_image(
            base64.b64decode(answer[field]),
            f"{_of_layer(answer, layer, answer['tumour_probability'])} {_OWN_SIDES}",
        )
    with right:
        if _has_mask(answer):
            mask = base64.b64decode(answer["mask_png"])
            st.download_button("Download the mask (PNG)", mask, "mask.png", "image/png", on_click="ignore")
        st.caption(_explain(answer))


def _show_volume(client: ApiClient, answer: dict[str, Any]) -> None:
    largest = answer["largest_slice"]
    _show_verdict(
        answer,
        ("Tumour volume", f"{_spelled(answer['tumour_ml'], '.1f')} ml"),
        ("Most tumour in slice", "–" if largest is None else str(largest)),
    )
    left, right = st.columns(2, gap="large")
    with left:
        layer = _choose_layer(answer)
        index = _choose_slice(answer)
        said = _of_layer(answer, layer, answer["slices"][index]["probability"])
        _show_image(_slice_png(client, answer["id"], index, layer), f"Slice {index}. {said} {_SIDES}")
    with right:
        if _has_verdict(answer):
            name = _probability_name(answer)
            curve = probability_curve(answer["slices"], answer["class_threshold"], index, name)
            st.altair_chart(curve, width="stretch")
        st.caption(_explain(answer))
        if _has_mask(answer):
            mask = _mask_nifti(client, answer["id"])
            st.download_button(
                "Download the mask (NIfTI)", mask, "mask.nii.gz", "application/gzip", on_click="ignore"
            )


def _spelled(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _show_image(png: bytes, caption: str) -> None:
    st.image(png, caption, width="stretch")


def _of_layer(answer: dict[str, Any], layer: str, probability: float | None) -> str:
    """Say what a layer shows of a slice or picture with this probability of a tumour."""
    if layer == "plain":
        return "The image as it is."
    if layer == "overlay":
        return "Orange: the mask."
    threshold = answer["class_threshold"]
    if probability is None or probability < threshold:
        return f"Below {threshold:.0%} no evidence is shown: the network does not call this a tumour."
    return "Evidence for a tumour (Grad-CAM), relative to this slice: brightest where it is strongest."


def _choose_slice(answer: dict[str, Any]) -> int:
    """Ask for a slice where there are two or more; Streamlit refuses a slider that cannot move."""
    last, first = answer["num_slices"] - 1, _first_slice(answer)
    return st.slider("Slice", 0, last, first, key=f"slice-{answer['id']}") if last else first


def _first_slice(answer: dict[str, Any]) -> int:
    return int(
        answer["key_slices"][0]["index"] if answer["largest_slice"] is None else answer["largest_slice"]
    )


def _explain(answer: dict[str, Any]) -> str:
    modalities = ", ".join(modality.upper() for modality in answer["modalities"])
    sentences = [f"Read as {modalities}."]
    if _has_verdict(answer):
        scale = "calibrated" if answer["calibrated"] else "raw, not calibrated"
        sentences += [
            f"A tumour is reported from a probability of {answer['class_threshold']:.0%} ({scale})."
        ]
    if _has_mask(answer):
        sentences += [f"A pixel is drawn from {answer['mask_threshold']:.0%}."]
    sentences += [f"{answer['origin'][:1].upper()}{answer['origin'][1:]}."]
    if _has_verdict(answer) and _has_mask(answer):
        sentences += ["Finding and mask are two answers of one network: where they disagree, trust neither."]
    return " ".join(sentences)


def _slice_png(client: ApiClient, result: str, index: int, layer: str) -> bytes:
    """Fetch a slice, and remember it while its result is shown: a slider is moved back and forth."""
    kept = _kept(result)
    if (index, layer) not in kept:
        kept[index, layer] = client.slice_png(result, index, layer)
    return kept[index, layer]


def _kept(result: str) -> dict[Any, bytes]:
    """Return the session's store for one result; that of an earlier one is dropped."""
    if st.session_state.get("kept", {}).get("result") != result:
        st.session_state["kept"] = {"result": result, "content": {}}
    content: dict[Any, bytes] = st.session_state["kept"]["content"]
    return content


def _mask_nifti(client: ApiClient, result: str) -> bytes:
    kept = _kept(result)
    if "mask" not in kept:
        kept["mask"] = client.mask_nifti(result)
    return kept["mask"]


def probability_curve(
    slices: list[dict[str, Any]], threshold: float, current: int, name: str = "Tumour probability"
) -> alt.LayerChart:
    """Return the tumour probability over the slices, with the threshold and the slice being looked at.

    A single slice has no curve: it becomes a dot in the middle of the chart.
    """
    single = len(slices) == 1
    rows = [{"slice": one["index"], "probability": one["probability"]} for one in slices]
    domain = [-0.5, 0.5] if single else [0, len(slices) - 1]
    slice_scale, share_scale = alt.Scale(domain=domain, nice=False), alt.Scale(domain=[0, 1])
    whole_slices = alt.Axis(tickMinStep=1, format="d")
    x = alt.X("slice:Q", title="Slice (feet to head)", scale=slice_scale, axis=whole_slices)
    y = alt.Y("probability:Q", title=name, scale=share_scale, axis=alt.Axis(format="%"))
    dot: Any = {"color": _TUMOUR} if single else False
    area = alt.Chart(alt.InlineData(rows)).mark_area(
        line={"color": _TUMOUR}, color=_TUMOUR, opacity=0.25, point=dot
    )
    limit = alt.Chart(alt.InlineData([{"y": threshold}])).mark_rule(strokeDash=[4, 4], color=_GREY)
    here = alt.Chart(alt.InlineData([{"x": current}])).mark_rule(color=_INK)
    layers = (area.encode(x=x, y=y), limit.encode(y="y:Q"), here.encode(x="x:Q"))
    return alt.LayerChart(layer=layers, height=260)
