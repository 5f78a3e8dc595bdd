"""The tab Patient: curve over the slices, volumes, lesions, key slices, comparison with a truth, summary."""

import html
from collections.abc import Sequence
from typing import Any

import streamlit as st

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.wording import reword
from slicewise.serving.page import finding as findings
from slicewise.serving.page import wording
from slicewise.serving.page.charts import slice_curve
from slicewise.serving.page.classification import side_by_side
from slicewise.serving.page.segmentation import size_metrics
from slicewise.serving.page.viewer import mask_classes, show_viewer

Row = Sequence[str]


def show_patient(finding: dict[str, Any]) -> None:
    if finding["kind"] == "picture":
        st.info(
            "This finding is of one picture. A patient has volumes, or a .zip of slices: choose them above."
        )
        return
    has_mask, has_class = (findings.has(finding, task) for task in (SEGMENTATION, CLASSIFICATION))
    target = findings.address(finding, "summary")
    st.html(f'<div class="sw-links"><a href="{target}" target="_blank">One-page summary to print</a></div>')
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader("Over the slices", anchor=False)
        curve = slice_curve(
            finding["slices"], finding["class_threshold"], has_probability=has_class, has_area=has_mask
        )
        st.altair_chart(curve, width="stretch")
    with right:
        if has_mask:
            st.subheader("What was found", anchor=False)
            st.html(table(*size_table(finding)))
        if finding.get("truth"):
            st.subheader("Compared with the truth", anchor=False)
            st.html(table(*truth_table(finding["truth"])))
    if finding["key_slices"]:
        st.subheader("Key slices", anchor=False)
        st.html(side_by_side(key_figures(finding)))
    st.subheader("All slices", anchor=False)
    show_viewer(finding, key="patient")


def size_table(finding: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return the heads and the rows of a table: volume and lesions of each class."""
    rows: list[Row] = []
    for each, lesions in zip(mask_classes(finding), finding["lesions"].values(), strict=True):
        largest = wording.millilitres(next(iter(lesions["ml"] or ()), None))
        rows.append([each["label"], wording.millilitres(each["millilitres"]), str(lesions["count"]), largest])
    *_, (name, value) = size_metrics(finding)
    return ["", "Volume", "Lesions", "Largest lesion"], [*rows, [name, value, "", ""]]


def truth_table(truth: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return the heads and the rows of a table: Dice and IoU, of each of several classes."""
    scores: dict[str, dict[str, float]] = truth["by_class"]
    rows: list[Row] = [
        [wording.class_label(name), f"{each['dice']:.3f}", f"{each['iou']:.3f}"]
        for name, each in scores.items()
    ]
    return ("", "Dice", "IoU"), rows


def table(heads: Row, rows: Sequence[Row]) -> str:
    """Return a table as HTML; all columns but the first are numbers."""

    def line(tag: str, cells: Row) -> str:
        kinds = ["", *[' class="number"'] * (len(cells) - 1)]
        pairs = zip(kinds, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in pairs) + "</tr>"

    return (
        f'<table class="sw-table"><thead>{line("th", heads)}</thead>'
        f"<tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
    )


def key_figures(finding: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the pictures of the key slices with their captions."""
    layer = "overlay" if findings.has(finding, SEGMENTATION) else "plain"
    return [
        (findings.address(finding, f"slices/{each['index']}.png?layer={layer}"), key_caption(finding, each))
        for each in finding["key_slices"]
    ]


def key_caption(finding: dict[str, Any], each: dict[str, Any]) -> str:
    parts = [f"Slice {wording.slice_number(each['index'])} of {finding['num_slices']}"]
    if each["probability"] is not None:
        parts.append(f"probability {wording.percent(each['probability'])}")
    if each["tumour_mm2"] is not None:
        parts.append(reword(f"tumour {each['tumour_mm2'] / 100:.1f} cm²"))
    return ", ".join(parts)
