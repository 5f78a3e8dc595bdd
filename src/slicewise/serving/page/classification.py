"""The tab Classification: verdict, calibrated probability on a scale, Grad-CAM beside the picture."""

import html
from typing import Any, Final

import streamlit as st

from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.wording import reword
from slicewise.serving.page import finding as findings
from slicewise.serving.page import wording
from slicewise.serving.page.charts import class_bars
from slicewise.serving.page.frame import verdict_probability
from slicewise.serving.page.viewer import first_slice

_PNG: Final = "data:image/png;base64,"


def show_classification(finding: dict[str, Any]) -> None:
    if not findings.has(finding, CLASSIFICATION):
        st.info("This model outlines, and gives no verdict: see the tab Segmentation.")
        return
    if finding["class_probabilities"]:
        st.altair_chart(class_bars(finding["class_probabilities"]), width="stretch")
        st.caption(f"The verdict is the most probable class. {_calibration(finding)}")
    else:
        st.html(probability_scale(finding))
        st.caption(reword(_explanation(finding)))
    if finding["kind"] == "picture":
        _show_picture(finding)
    else:
        _show_slice(finding)


def probability_scale(finding: dict[str, Any]) -> str:
    """Return the probability on a scale with the threshold and the uncertain zone, as HTML."""
    probability, threshold = finding["tumour_probability"], finding["class_threshold"]
    band = finding["uncertain_band"]
    said = f"probability {probability:.1%}, threshold {threshold:.0%}"
    zone = ""
    if band:
        said += f", uncertain from {band[0]:.0%} to {band[1]:.0%}"
        zone = f'<div class="band" style="left:{band[0]:.1%};width:{band[1] - band[0]:.1%}"></div>'
    # The names of both ends stand in the line below: the threshold's keeps clear of them.
    place = min(max(threshold, 0.2), 0.8)
    return (
        f'<div class="sw-scale" role="img" aria-label="{html.escape(said)}">'
        f'<div class="above" style="left:{threshold:.1%}"></div>{zone}'
        f'<div class="mark" style="left:{threshold:.1%}"></div>'
        f'<div class="pointer" style="left:{probability:.1%}"></div>'
        f'<b style="left:clamp(1.6rem, {probability:.1%}, 100% - 1.6rem)">{wording.percent(probability)}</b>'
        "</div>"
        f'<div class="sw-marks"><span class="low">0%</span><span style="left:{place:.1%}">'
        f'threshold {threshold:.0%}</span><span class="high">100%</span></div>'
    )


def _explanation(finding: dict[str, Any]) -> str:
    threshold, band = finding["class_threshold"], finding["uncertain_band"]
    sentences = [
        f"Probability of a tumour: {finding['tumour_probability']:.1%}.",
        f"From {threshold:.0%} on it is called a tumour.",
    ]
    if band:
        sentences += [f"Between {band[0]:.0%} and {band[1]:.0%} (hatched) it is called uncertain."]
    return " ".join([*sentences, _calibration(finding)])


def _calibration(finding: dict[str, Any]) -> str:
    if finding["calibrated"]:
        return "Probabilities are calibrated on the validation patients."
    return "Probabilities are raw: they were not calibrated."


def _show_picture(finding: dict[str, Any]) -> None:
    caption = f"{_evidence(finding, verdict_probability(finding))} Left and right as in your picture."
    figures = [(f"{_PNG}{finding['picture_png']}", "The picture")]
    if finding["gradcam_png"]:
        figures.append((f"{_PNG}{finding['gradcam_png']}", caption))
    st.html(side_by_side(figures))


def _show_slice(finding: dict[str, Any]) -> None:
    last, index = finding["num_slices"], first_slice(finding)
    if last > 1:  # Streamlit refuses a slider with a single position
        number = st.slider("Slice, counted from the feet", 1, last, index + 1, key=f"slice-{finding['id']}")
        index = number - 1
    name, probability = wording.slice_number(index), finding["slices"][index]["probability"]
    place = "" if probability is None else f", probability {wording.percent(probability)}"
    side = "R is the patient’s right."
    url = findings.address(finding, f"slices/{index}.png")
    st.html(
        side_by_side(
            [
                (f"{url}?layer=plain", f"Slice {name} of {last}{place}. {side}"),
                (f"{url}?layer=gradcam", _evidence(finding, probability)),
            ]
        )
    )


def _evidence(finding: dict[str, Any], probability: float | None) -> str:
    """Return the caption of the Grad-CAM of a slice or picture with this probability."""
    threshold = finding["class_threshold"]
    if threshold is None:
        return "Evidence for the predicted class (Grad-CAM): brightest where it is strongest."
    if probability is None or probability < threshold:
        return reword(f"No evidence is drawn: below {threshold:.0%} this is not called a tumour.")
    return reword("Evidence for a tumour (Grad-CAM): brightest where it is strongest in this picture.")


def side_by_side(figures: list[tuple[str, str]]) -> str:
    """Return pictures with captions, as HTML; one below the other where the page is narrow."""
    parts = (
        f'<figure><img src="{html.escape(source)}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for source, caption in figures
    )
    return f'<div class="sw-pictures">{"".join(parts)}</div>'
