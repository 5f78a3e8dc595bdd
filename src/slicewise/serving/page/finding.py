"""The finding that the page shows: kept by the session, and by the API under the address `?finding=ID`."""

from typing import Any, Final

import streamlit as st

from slicewise.core.errors import ServingError
from slicewise.serving.page import wording
from slicewise.serving.page.client import ApiClient

PARAMETER: Final = "finding"
_SESSION: Final = "current_finding"
_MOST_NAMES: Final = 10_000


_names: dict[str, str] = {}
"""Of cases by finding, for every visitor who knows its address: the API does not keep them."""


def remember_name(finding: dict[str, Any], name: str) -> None:
    """Remember whose finding it is for as long as the page's server runs."""
    _names[finding["id"]] = name
    while len(_names) > _MOST_NAMES:
        _names.pop(next(iter(_names)))


def keep(finding: dict[str, Any], name: str) -> None:
    """Show this finding from now on; its address is that of the page."""
    remember_name(finding, name)
    st.session_state[_SESSION] = finding
    st.query_params[PARAMETER] = finding["id"]


def current(client: ApiClient) -> dict[str, Any] | None:
    """Return the finding of the page's address, or None; one that is gone is reported."""
    key = st.query_params.get(PARAMETER)
    if not key:
        return None
    finding: dict[str, Any] | None = st.session_state.get(_SESSION)
    if finding is None or finding["id"] != key:
        try:
            finding = client.finding(key)
        except ServingError as error:
            del st.query_params[PARAMETER]
            st.warning(wording.plain(str(error)), icon=":material/history:")
            return None
        st.session_state[_SESSION] = finding
    return finding


def has(finding: dict[str, Any], task: str) -> bool:
    """Return whether the model has this task."""
    return task in finding["tasks"]


def case_name(finding: dict[str, Any]) -> str:
    return _names.get(finding["id"], "Examination")


def read_as(finding: dict[str, Any]) -> str:
    """Return the sequences and the size of a finding, as in `FLAIR, T2 · 155 slices`."""
    sequences = ", ".join(map(wording.sequence, finding["modalities"]))
    size = "picture" if finding["kind"] == "picture" else wording.counted(finding["num_slices"], "slice")
    return f"{sequences} · {size}"


def warnings(finding: dict[str, Any]) -> list[str]:
    """Return what is to be known before the finding is read, about the files and their plausibility."""
    notes = finding["warnings"]
    return [wording.sentence(note) for note in dict.fromkeys(notes)]


def remarks(finding: dict[str, Any]) -> list[str]:
    """Return what is said about the files and is no warning: as what DICOM series were read."""
    return [note for note in finding.get("file_notes", []) if note not in finding["warnings"]]


def address(finding: dict[str, Any], path: str) -> str:
    """Return the address of a file of a finding on the page's own server."""
    return f"findings/{finding['id']}/{path}"
