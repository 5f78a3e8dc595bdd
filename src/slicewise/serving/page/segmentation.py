"""The tab Segmentation: volumes, the viewer with mask, outline or probability, and downloads."""

import html
from typing import Any, Final

import streamlit as st

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.wording import reword
from slicewise.serving.page import finding as findings
from slicewise.serving.page import wording
from slicewise.serving.page.frame import show_metrics
from slicewise.serving.page.viewer import mask_classes, show_viewer

FORMATS: Final = {"nii.gz": "NIfTI", "png": "PNG"}


def show_segmentation(finding: dict[str, Any]) -> None:
    if not findings.has(finding, SEGMENTATION):
        st.info("This model gives a verdict, and no outline: see the tab Classification.")
        if finding["kind"] == "volume":
            show_viewer(finding, key="segmentation")
        return
    show_metrics(size_metrics(finding))
    show_viewer(finding, key="segmentation")
    st.html(links(downloads(finding)))
    st.caption(reword(_explanation(finding)))


def size_metrics(finding: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the size of what was found: a share of a picture, or millilitres per class."""
    if finding["kind"] == "picture":
        return [(reword("Tumour share of the tissue"), wording.percent(finding["tumour_share"]))]
    each = [(entry["label"], wording.millilitres(entry["millilitres"])) for entry in mask_classes(finding)]
    if len(each) < 2:
        each = [(reword("Tumour volume"), wording.millilitres(finding["tumour_ml"]))]
    largest = wording.slice_number(finding["largest_slice"])
    if finding["largest_slice"] is not None:
        largest += f" of {finding['num_slices']}"
    return [*each, ("Largest area in slice", largest)]


def downloads(finding: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what each download is called, and its address."""
    end = "png" if finding["kind"] == "picture" else "nii.gz"
    files = [(f"Mask ({FORMATS[end]})", f"mask.{end}")]
    if finding.get("dicom_seg_url"):
        files.append(("Mask (DICOM-SEG)", "seg.dcm"))
    for name in finding["mask_classes"] or [None]:
        of_class = f" of {name.replace('_', ' ')}" if name else ""
        query = f"?class={name}" if name else ""
        files.append((f"Probability{of_class} ({FORMATS[end]})", f"probability.{end}{query}"))
    return [(title, findings.address(finding, path)) for title, path in files]


def links(targets: list[tuple[str, str]]) -> str:
    """Return links that download, as HTML."""
    parts = (
        f'<a href="{html.escape(address)}" download>{html.escape(title)}</a>' for title, address in targets
    )
    return f'<div class="sw-links">{"".join(parts)}</div>'


def _explanation(finding: dict[str, Any]) -> str:
    if finding["mask_exclusive"]:
        sentences = ["Each place has its most probable class."]
    else:
        shares = {
            f"{entry['threshold']:.0%}": f" for {entry['label'].lower()}" for entry in mask_classes(finding)
        }
        several = len(shares) > 1
        each = [f"{share}{name if several else ''}" for share, name in shares.items()]
        sentences = [f"The mask holds places from a probability of {wording.enumeration(each)} on."]
    if findings.has(finding, CLASSIFICATION):
        sentences += ["Verdict and mask are two outputs of one model: if they disagree, trust neither."]
    return " ".join(sentences)
