"""The tab Batch: many pictures and examinations, one after the other; a table, its files, and what failed."""

import base64
import csv
import io
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final

import streamlit as st
from PIL import Image

from slicewise.core.errors import ServingError
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.serving.page import wording
from slicewise.serving.page.client import ApiClient, new_request_id
from slicewise.serving.page.files import BatchItem, batch_items
from slicewise.serving.page.finding import PARAMETER, remember_name
from slicewise.serving.page.frame import verdict_probability

_SESSION: Final = "batch"
_THUMBNAIL: Final = 96
_AT_ONCE: Final = 4
"""Requests: the API predicts pictures that wait as one batch."""
_COLUMNS: Final = ("name", "verdict", "probability", "volume_ml", "share", "warnings", "finding")


def show_batch(client: ApiClient, info: dict[str, Any]) -> None:
    results = st.session_state.get(_SESSION)
    if results is None:
        place = st.container(border=True)
    else:
        place = st.expander(f"**{wording.counted(len(results), 'case')}** — examine others")
    with place:
        files = st.file_uploader(
            "Pictures, NIfTI volumes whose names say patient and sequence, or a .zip of them",
            accept_multiple_files=True,
            key="files-batch",
        )
        if files and st.button("Examine all", type="primary"):
            items = batch_items([(file.name, file.getvalue()) for file in files], info["max_upload_mib"])
            st.session_state[_SESSION] = examine_all(client, items)
            st.rerun()
    if results:
        _show_results(results, info)
    elif results is not None:
        st.info("There was nothing to examine among these files.")


def examine_all(client: ApiClient, items: Sequence[BatchItem]) -> list[dict[str, Any]]:
    """Return the result of each item: name, `finding`, `mask` and `thumbnail`, or a problem."""
    results = []
    bar = st.progress(0.0, "Examining …")
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="page-batch")
    try:
        for result in pool.map(partial(examine, client), items):
            results.append(result)
            bar.progress(len(results) / len(items), f"Examined {len(results)} of {len(items)}")
    finally:  # also where the visitor leaves
        pool.shutdown(wait=False, cancel_futures=True)
    bar.empty()
    return results


def examine(client: ApiClient, item: BatchItem) -> dict[str, Any]:
    if item.problem:
        return {"name": item.name, "problem": item.problem}
    archive = item.files[0][1][0].lower().endswith(".zip")
    send = client.analyze_patient if archive else client.predict_files
    try:
        finding = send(item.files, request=new_request_id())
        remember_name(finding, item.name)
        return {
            "name": item.name,
            "problem": "",
            "finding": {name: value for name, value in finding.items() if not name.endswith("_png")},
            "mask": _mask(client, finding),
            "thumbnail": _thumbnail(client, finding),
        }
    except ServingError as error:
        return {"name": item.name, "problem": str(error)}


def _mask(client: ApiClient, finding: dict[str, Any]) -> bytes | None:
    if SEGMENTATION not in finding["tasks"]:
        return None
    return client.download(finding["mask_url"])


def _thumbnail(client: ApiClient, finding: dict[str, Any]) -> str:
    """Return a small picture of the case with its mask, as an address that holds it."""
    if finding["kind"] == "picture":
        content = base64.b64decode(finding["overlay_png"] or finding["picture_png"])
    else:
        key_slice = (
            finding["key_slices"][0]["index"]
            if finding["largest_slice"] is None
            else finding["largest_slice"]
        )
        layer = "overlay" if SEGMENTATION in finding["tasks"] else "plain"
        content = client.download(f"/results/{finding['id']}/slices/{key_slice}.png?layer={layer}")
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _show_results(results: Sequence[dict[str, Any]], info: dict[str, Any]) -> None:
    done = [result for result in results if not result["problem"]]
    failed = [result for result in results if result["problem"]]
    if done:
        _show_table(done, info)
        left, right, _ = st.columns([1, 1, 2])
        left.download_button(
            "Table (CSV)", table_csv(results), "slicewise.csv", "text/csv", on_click="ignore"
        )
        if any(result["mask"] for result in done):
            masks = zip_masks(done)
            right.download_button("Masks (ZIP)", masks, "masks.zip", "application/zip", on_click="ignore")
    if failed:
        st.subheader(f"Not examined: {len(failed)}", anchor=False)
        for result in failed:
            st.error(describe_failure(result["name"], result["problem"]), icon=":material/error:")


def describe_failure(name: str, problem: str) -> str:
    """Return the name of a case and its problem, which may begin with the name, as Markdown."""
    for begin in (name, PurePosixPath(name).name):
        if problem.lower().startswith(begin.lower()):  # a sentence begins with a capital
            problem = problem[len(begin) :].lstrip(": ")
    return f"**{wording.plain(name)}** – {wording.plain(problem)}"


def _show_table(done: Sequence[dict[str, Any]], info: dict[str, Any]) -> None:
    columns: dict[str, Any] = {
        "thumbnail": st.column_config.ImageColumn("", width="small"),
        "name": st.column_config.TextColumn("Case"),
        "verdict": st.column_config.TextColumn("Verdict"),
        "probability": st.column_config.ProgressColumn(
            "Probability", format="percent", min_value=0.0, max_value=1.0
        ),
        "volume_ml": st.column_config.NumberColumn("Volume, ml", format="%.1f"),
        "share": st.column_config.NumberColumn("Share of the tissue", format="percent"),
        "warnings": st.column_config.TextColumn("Warnings"),
        "finding": st.column_config.LinkColumn("Look at it", display_text="open"),
    }
    rows = [{"thumbnail": result["thumbnail"], **table_row(result)} for result in done]
    shown = {
        name for name in columns if any(row.get(name) is not None and row.get(name) != "" for row in rows)
    }
    if CLASSIFICATION not in info["tasks"]:
        shown -= {"verdict", "probability"}
    order = [name for name in columns if name in shown]
    st.dataframe(
        rows,
        column_config=columns,
        column_order=order,
        hide_index=True,
        width="stretch",
        row_height=64,
        placeholder="",
    )


def table_row(result: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the table and of the CSV file."""
    if result["problem"]:
        return {"name": result["name"], "problem": result["problem"]}
    finding = result["finding"]
    return {
        "name": result["name"],
        "verdict": wording.verdict(finding),
        "probability": verdict_probability(finding) if CLASSIFICATION in finding["tasks"] else None,
        "volume_ml": finding.get("tumour_ml"),
        "share": finding.get("tumour_share"),
        "warnings": "; ".join(finding["warnings"]),
        "finding": f"/?{PARAMETER}={finding['id']}&tab=Segmentation",
    }


def table_csv(results: Sequence[dict[str, Any]]) -> str:
    """Return the table with what failed, as CSV; spreadsheets must take no name for a formula."""
    target = io.StringIO()
    writer = csv.DictWriter(
        target, [name for name in (*_COLUMNS, "problem") if name != "finding"], extrasaction="ignore"
    )
    writer.writeheader()
    for result in results:
        row = table_row(result)
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return target.getvalue()


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def zip_masks(done: Sequence[dict[str, Any]]) -> bytes:
    """Return the masks as one archive, each under the name of its case."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, result in enumerate(done):
            if result["mask"] is None:
                continue
            end = "png" if result["finding"]["kind"] == "picture" else "nii.gz"
            stem = result["name"].replace("/", "_").rsplit(".", 1)[0]
            name = f"{stem}_mask.{end}"
            archive.writestr(
                name if name not in archive.namelist() else f"{stem}_{number + 1}_mask.{end}", result["mask"]
            )
    return target.getvalue()
