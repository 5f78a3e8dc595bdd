"""The form: files, or an example patient; folded to one line once something was examined."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from slicewise.core.disk import MIB
from slicewise.core.errors import ServingError
from slicewise.data.filenames import parse_filename
from slicewise.domain.labels import MODALITIES
from slicewise.serving.page import finding as findings
from slicewise.serving.page import wording
from slicewise.serving.page.client import ApiClient, FileField
from slicewise.serving.page.files import case_name, explain_refusal, is_archive, is_volume
from slicewise.serving.page.waiting import call_and_wait

_OWN, _EXAMPLE = "Your own files", "Example patient"
_UNKNOWN: Final = "not known"


def render_form(
    client: ApiClient, info: dict[str, Any], finding: dict[str, Any] | None, *, with_truth: bool = False
) -> None:
    """Show the form; after a click on its button the page shows the finding, under its own address."""
    if finding is None:
        place = st.container(border=True)
    else:  # the key closes it for the next finding
        place = st.expander("Examine something else", key=f"other-{finding['id']}")
    with place:
        cases = client.cases()
        sources = [_OWN, _EXAMPLE] if cases else [_OWN]
        key = "patient" if with_truth else "examination"
        source = st.segmented_control(
            "What to examine", sources, default=_OWN, required=True, label_visibility="collapsed",
            key=f"source-{key}",
        )  # fmt: skip
        if source == _OWN:
            _Upload(client, info, key, with_truth).render()
        else:
            _render_examples(client, [case["name"] for case in cases], key)


def _render_examples(client: ApiClient, names: Sequence[str], key: str) -> None:
    label = "A generated patient that is not in the training set"
    name = st.selectbox(label, names, key=f"case-{key}")
    if st.button("Examine", type="primary", key=f"examine-case-{key}"):
        _examine(client, name, lambda api, request: api.predict_case(name, request=request))


def _examine(client: ApiClient, name: str, call: Callable[[ApiClient, str], Any]) -> None:
    try:
        finding = call_and_wait(client, f"Examining {name}", call)
    except ServingError as error:
        st.error(wording.plain(str(error)), icon=":material/error:")
        return
    findings.keep(finding, name)
    st.rerun()


class _Upload:
    """The part of the form for files of one examination."""

    def __init__(self, client: ApiClient, info: dict[str, Any], key: str, with_truth: bool) -> None:
        self.client, self.info, self.key, self.with_truth = client, info, key, with_truth
        self.channels: list[str] = info["preprocessing"]["channels"]

    def render(self) -> None:
        kinds = "the NIfTI volumes of one examination, or a .zip of its DICOM series"
        what = (
            f"{kinds[0].upper()}{kinds[1:]}, or of its slices" if self.with_truth else f"One picture, {kinds}"
        )
        help_text = (
            f"Up to {self.info['max_upload_mib']} MiB in all. Files are deleted after the prediction; the "
            "finding stays for a while under its address, as the documentation says."
        )
        files = st.file_uploader(what, accept_multiple_files=True, help=help_text, key=f"files-{self.key}")
        truth = None
        if self.with_truth:
            label = "A mask to compare with (NIfTI, on the same grid), if there is one"
            truth = st.file_uploader(label, key=f"truth-{self.key}")
        refusals = [reason for file in files if (reason := explain_refusal(file.name))]
        if truth is not None and not is_volume(truth.name):
            refusals.append(
                f"{truth.name} is no mask to compare with: choose a NIfTI file (.nii or .nii.gz)."
            )
        for reason in refusals:
            st.error(wording.plain(reason), icon=":material/block:")
        if not files or refusals:
            return
        modality, fields = self._fields(files)
        if st.button("Examine", type="primary", key=f"examine-files-{self.key}"):
            self._send(files, fields, modality, truth)

    def _fields(self, files: Sequence[UploadedFile]) -> tuple[str | None, list[FileField]]:
        """Return the sequence of a picture, if chosen, and each file with the form field of its own."""
        modality = None
        if len(files) == 1 and not is_volume(files[0].name) and not is_archive(files[0].name):
            modality = self._select_sequence_of_picture(files[0].name)
        fields = [(self._select_sequence(file.name), (file.name, file.getvalue())) for file in files]
        return modality, fields

    def _select_sequence_of_picture(self, name: str) -> str | None:
        if len(self.channels) < 2 or not {*self.channels} <= {*MODALITIES}:
            return None
        choice: str | None = st.selectbox(
            f"Sequence of {name}", [None, *self.channels], key=f"picture-{self.key}",
            format_func=lambda channel: wording.sequence(channel) if channel else _UNKNOWN,
        )  # fmt: skip
        return choice

    def _select_sequence(self, file_name: str) -> str:
        """Return the form field of a file: `file` for a picture or an archive, else a channel, or ''."""
        if not is_volume(file_name):
            return "file"
        name = parse_filename(Path(file_name))
        channel = st.selectbox(
            f"Sequence of {file_name}",
            self.channels,
            index=self.channels.index(name.kind) if name.sure and name.kind in self.channels else None,
            placeholder="choose the sequence",
            format_func=wording.sequence,
            key=f"sequence-{self.key}-{file_name}",
        )
        return channel or ""

    def _send(
        self,
        files: Sequence[UploadedFile],
        fields: list[FileField],
        modality: str | None,
        truth: UploadedFile | None,
    ) -> None:
        if problem := find_problem(fields, self.info["max_upload_mib"]):
            st.error(wording.plain(problem), icon=":material/error:")
            return
        if truth is not None:
            fields = [*fields, ("truth", (truth.name, truth.getvalue()))]
        analyse = truth is not None or is_archive(files[0].name)

        def call(api: ApiClient, request: str) -> Any:
            send = api.analyze_patient if analyse else api.predict_files
            return send(fields, modality, request=request)

        _examine(self.client, case_name([file.name for file in files]), call)


def find_problem(fields: Sequence[FileField], max_mib: int) -> str:
    """Return what is wrong with the files before they are sent, or ''."""
    names = [name for name, _ in fields]
    if "" in names:
        return "Choose the sequence of each volume."
    if len(set(names)) < len(names):
        return (
            "Two files show the same sequence, or there are several pictures: choose the files of one "
            "examination, or use the tab Batch."
        )
    if sum(len(content) for _, (_, content) in fields) > max_mib * MIB:
        return f"The files have more than {max_mib} MiB in total: choose fewer or smaller ones."
    return ""
