"""The viewers: NiiVue for a volume, a canvas for a picture; they run in the browser.

Their data are addresses of files of a finding on the page's own server, which passes them on from the API.
"""

from pathlib import Path
from typing import Any, Final

import streamlit as st

from slicewise.domain.classes import Classes
from slicewise.domain.labels import SEGMENTATION
from slicewise.serving.page import finding as findings
from slicewise.serving.page import wording

ASSETS: Final = Path(__file__).with_name("assets")
MIDDLE_SHARE: Final = 0.5


def _component(name: str) -> Any:
    html, css, js = (
        (ASSETS / file).read_text(encoding="utf-8") for file in (f"{name}.html", "viewer.css", f"{name}.js")
    )
    return st.components.v2.component(f"slicewise.{name}", html=html, css=css, js=js)


_volume_viewer, _picture_viewer = _component("viewer"), _component("picture")


def show_viewer(finding: dict[str, Any], *, key: str) -> None:
    """Show the viewer of a volume or of a picture."""
    if finding["kind"] == "picture":
        _picture_viewer(data=picture_data(finding), key=f"{key}-{finding['id']}")
    else:
        _volume_viewer(data=volume_data(finding), key=f"{key}-{finding['id']}")


def mask_classes(finding: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the classes of a pixel with colours, thresholds and volumes; none without segmentation.

    Classes that exclude each other have no threshold: the most probable one counts.
    """
    if not findings.has(finding, SEGMENTATION):
        return []
    names = finding["mask_classes"]
    colours = Classes(tuple(names) or ("tumour",)).colours
    own, common = finding["class_mask_thresholds"], finding["mask_threshold"]
    if finding["mask_exclusive"]:
        own, common = {}, None
    if not names:
        return [_class(finding, "tumour", None, colours[0], common, finding.get("tumour_ml"))]
    millilitres = finding.get("class_ml", {})
    return [
        _class(finding, name, name, colour, own.get(name, common), millilitres.get(name))
        for name, colour in zip(names, colours, strict=True)
    ]


def _class(
    finding: dict[str, Any],
    name: str,
    query: str | None,
    colour: tuple[int, int, int],
    threshold: float | None,
    volume: float | None,
) -> dict[str, Any]:
    suffix = f"?class={query}" if query else ""
    return {
        "name": name,
        "label": wording.class_label(name),
        "colour": list(colour),
        "threshold": threshold,
        "millilitres": volume,
        "probability": findings.address(finding, f"probability.nii.gz{suffix}"),
    }


def volume_data(finding: dict[str, Any]) -> dict[str, Any]:
    """Return what the viewer of a volume shows; the slice counts from 1."""
    has_mask = findings.has(finding, SEGMENTATION)
    images = [
        {
            "name": name,
            "label": wording.sequence(name),
            "url": findings.address(finding, f"image/{name}.nii.gz"),
        }
        for name in sorted(
            finding["modalities"], key=["flair", "t1ce", "t2", "t1", *finding["modalities"]].index
        )
    ]
    return {
        "finding": finding["id"],
        "images": images,
        "mask": findings.address(finding, "mask.nii.gz") if has_mask else None,
        "truth": findings.address(finding, "truth.nii.gz") if finding.get("truth") else None,
        "classes": mask_classes(finding),
        "slice": first_slice(finding) + 1,
    }


def first_slice(finding: dict[str, Any]) -> int:
    """Return the index of the slice to look at first."""
    if finding["largest_slice"] is not None:
        return int(finding["largest_slice"])
    key_slices = finding["key_slices"]
    return int(key_slices[0]["index"]) if key_slices else int(finding["num_slices"] * MIDDLE_SHARE)


def picture_data(finding: dict[str, Any]) -> dict[str, Any]:
    has_mask = findings.has(finding, SEGMENTATION)
    several = len(finding["mask_classes"]) > 1
    return {
        "finding": finding["id"],
        "image": findings.address(finding, "image.png"),
        "mask": findings.address(finding, "mask.png") if has_mask else None,
        "probability": findings.address(finding, "probability.png") if has_mask and not several else None,
        "classes": mask_classes(finding),
        "threshold": finding["mask_threshold"],
        "share": finding["tumour_share"],
        "whole": "the picture’s tissue",
    }
