"""The one-page summary of a patient, for the printer: HTML without anything from elsewhere."""

from datetime import datetime
from functools import cache
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, Template, select_autoescape

from slicewise.domain.labels import CLASSIFICATION, NOTICE, SEGMENTATION, SYNTHETIC_WARNING
from slicewise.domain.wording import reword
from slicewise.serving.page import finding as findings
from slicewise.serving.page import patient, wording
from slicewise.serving.page.viewer import ASSETS

_WIDTH, _HEIGHT = 640.0, 150.0
_MOST_PICTURES: Final = 3


@cache
def _template() -> Template:
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=select_autoescape(default=True))
    return environment.get_template("summary.html.j2")


def render_summary(finding: dict[str, Any], now: datetime) -> str:
    """Return the summary of a finding, a volume or a picture, as one HTML page."""
    is_volume = finding["kind"] == "volume"
    has_mask = findings.has(finding, SEGMENTATION)
    return _template().render(
        finding=finding,
        name=findings.case_name(finding),
        read_as=findings.read_as(finding),
        verdict=wording.verdict(finding),
        probability=_probability(finding),
        notices=[reword(NOTICE), *([reword(SYNTHETIC_WARNING)] if finding["synthetic"] else [])],
        warnings=findings.warnings(finding),
        sizes=patient.size_table(finding) if is_volume and has_mask else None,
        truth=patient.truth_table(finding["truth"]) if finding.get("truth") else None,
        curves=curves(finding) if is_volume else [],
        last=finding.get("num_slices"),
        pictures=_pictures(finding),
        size=(_WIDTH, _HEIGHT),
        point=f"{wording.operating_point(finding, finding['tasks'])}. {wording.sentence(finding['origin'])}",
        now=f"{now:%Y-%m-%d %H:%M}",
    )


def _probability(finding: dict[str, Any]) -> str | None:
    if not findings.has(finding, CLASSIFICATION):
        return None
    if finding["class_probabilities"]:
        ordered = sorted(finding["class_probabilities"].items(), key=lambda each: -each[1])
        return ", ".join(f"{wording.class_label(name)} {wording.percent(share)}" for name, share in ordered)
    kind = "calibrated" if finding["calibrated"] else "raw"
    threshold = wording.percent(finding["class_threshold"])
    text = f"{wording.percent(finding['tumour_probability'])} ({kind}), threshold {threshold}"
    if band := finding["uncertain_band"]:
        text += f", uncertain from {wording.percent(band[0])} to {wording.percent(band[1])}"
    return text


def _pictures(finding: dict[str, Any]) -> list[tuple[str, str]]:
    """Return pictures in base64 with their captions."""
    if finding["kind"] == "picture":
        named = {"picture_png": "The picture", "overlay_png": "Mask", "gradcam_png": "Evidence (Grad-CAM)"}
        return [(finding[field], caption) for field, caption in named.items() if finding[field]]
    slices = [each for each in finding["key_slices"] if each["overlay_png"]][:_MOST_PICTURES]
    return [(each["overlay_png"], patient.key_caption(finding, each)) for each in slices]


def curves(finding: dict[str, Any]) -> list[tuple[str, str, str, float]]:
    """Return name, colour, points of a polyline and largest value of the probability and of the area."""
    slices = finding["slices"]
    largest = max((each["tumour_mm2"] or 0.0 for each in slices), default=0.0)
    lines = []
    if findings.has(finding, SEGMENTATION) and largest:
        areas = [None if each["tumour_mm2"] is None else each["tumour_mm2"] / largest for each in slices]
        lines.append((reword("tumour area, cm²"), "#3578b5", _points(areas), largest / 100))
    if findings.has(finding, CLASSIFICATION):
        lines.append(("probability", "#c2410c", _points([each["probability"] for each in slices]), 1.0))
    return lines


def _points(shares: list[float | None]) -> str:
    step = _WIDTH / max(1, len(shares) - 1)
    known = ((place, share) for place, share in enumerate(shares) if share is not None)
    return " ".join(f"{place * step:.1f},{_HEIGHT * (1 - share):.1f}" for place, share in known)
