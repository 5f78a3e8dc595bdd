"""Inputs of the page: files, or a bundled case."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import streamlit as st

from slicewise.core.disk import MIB
from slicewise.data.filenames import SUFFIXES, parse_filename
from slicewise.serving.page.client import ApiClient, FileField

PREDICTION_KEY: Final = "answer"
"""Key of the session's last prediction, which the page shows until the next one."""
_UPLOAD, _CASE = "Your own MRI", "Phantom case"


def render_inputs(client: ApiClient, info: dict[str, Any]) -> None:
    """Show the inputs; after a click on the button, store the prediction in the session."""
    cases = client.cases()
    sources = [_UPLOAD, _CASE] if cases else [_UPLOAD]
    source = st.segmented_control(
        "What to examine", sources, default=_UPLOAD, required=True, label_visibility="collapsed"
    )
    if source == _UPLOAD:
        _select_files(client, info)
        return
    label = "A generated patient that is not in the training set"
    name = st.selectbox(label, [case["name"] for case in cases])
    if st.button("Examine", type="primary", key="examine-case"):
        st.session_state.pop(PREDICTION_KEY, None)
        with st.spinner("Examining …"):
            st.session_state[PREDICTION_KEY] = {"name": name, **client.predict_case(name)}


def is_volume(file_name: str) -> bool:
    return file_name.lower().endswith(SUFFIXES)


def _select_files(client: ApiClient, info: dict[str, Any]) -> None:
    max_mib, channels = info["max_upload_mib"], info["preprocessing"]["channels"]
    files = st.file_uploader(
        "One picture (PNG, JPEG, TIFF, …), or the NIfTI volumes of one examination",
        accept_multiple_files=True,
        help=f"Up to {max_mib} MiB in all. The API deletes them after the prediction; "
        "this page keeps them until you remove them or close it.",
    )
    fields = [(_select_modality(file.name, channels), (file.name, file.getvalue())) for file in files]
    if files and st.button("Examine", type="primary", key="examine-files"):
        st.session_state.pop(PREDICTION_KEY, None)
        if problem := _validate(fields, max_mib):
            st.error(problem, icon=":material/error:")
            return
        with st.spinner("Examining …"):
            name = ", ".join(file.name for file in files)
            st.session_state[PREDICTION_KEY] = {"name": name, **client.predict_files(fields)}


def _select_modality(file_name: str, channels: Sequence[str]) -> str:
    """Return the form field of a file: `file` for a picture, else the selected channel, or ''."""
    if not is_volume(file_name):
        return "file"
    name = parse_filename(Path(file_name))
    modality = st.selectbox(
        f"Modality of {file_name}",
        channels,
        index=channels.index(name.kind) if name.sure and name.kind in channels else None,
        placeholder="choose the modality",
        format_func=str.upper,
        key=f"modality-{file_name}",
    )
    return modality or ""


def _validate(fields: Sequence[FileField], max_mib: int) -> str:
    """Return what is wrong with the files before they are sent, or ''."""
    names = [field for field, _ in fields]
    if "" in names:
        return "Choose the modality of each volume."
    if len(set(names)) < len(names):
        return "Two files have the same modality, or there are several pictures; examine one at a time."
    if sum(len(content) for _, (_, content) in fields) > max_mib * MIB:
        return f"The files have more than {max_mib} MiB in total; choose fewer or smaller ones."
    return ""
