"""One examination of a patient: volumes, a ZIP with its files, or a stack of slices; with a reference."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Annotated, Any, Self

import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray
from starlette.responses import Response

from slicewise.core.errors import DataError
from slicewise.domain.labels import SEGMENTATION
from slicewise.evaluation.given_reference import compare_with_reference, read_reference
from slicewise.inference.dicom_seg import encode_dicom_seg
from slicewise.serving.api import layers, negotiation, responses, schemas
from slicewise.serving.api.archives import ExaminationReader, StackGrid
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.forms import StrictRoute, collect_uploads, patient_form
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.negotiation import DICOM, JSON, NIFTI
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.routes import shared
from slicewise.serving.api.routes.shared import ServiceDep, dicom_response, json_response, nifti_response
from slicewise.serving.api.service import PredictionService
from slicewise.serving.api.uploads import StoredUpload, store_uploads, translate_names


def make_router(channels: Sequence[str]) -> APIRouter:
    """Return the route; the form of uploads has a field for each of the channels of the model."""
    router = APIRouter(route_class=StrictRoute, tags=["patient"])
    form_type = patient_form(channels)

    @router.post(
        "/patient/analyze",
        response_model=schemas.PatientExamination,
        responses=shared.UPLOAD_PROBLEMS | shared.NOT_ACCEPTABLE | shared.NIFTI_OR_DICOM,
    )
    async def analyze(
        request: Request,
        service: ServiceDep,
        form: form_type,  # type: ignore[valid-type]
        gradcam: Annotated[bool, Query(description="also return the Grad-CAM of the key slices")] = False,
    ) -> Response:
        """Predict an examination: the curve over the slices, areas, volumes, lesions and key slices.

        `file` is a volume, or a ZIP with the files of one examination: DICOM series, NIfTI volumes, or slices
        of a stack.
        """
        accepted = negotiation.acceptable(request.headers.get("accept"), [JSON, NIFTI, DICOM])
        with _Examination(service, dict(form)) as examination:
            return await service.examine(
                request,
                examination.read,
                lambda finding, started: _respond(
                    service, examination.complete(finding), started, accepted, gradcam
                ),
            )

    return router


def _respond(
    service: PredictionService, finding: Finding, started: float, accepted: Sequence[str], gradcam: bool
) -> Response:
    available = [JSON, NIFTI, *([DICOM] if finding.dicom_seg else [])]
    chosen = negotiation.choose(accepted, available, "these are no DICOM series")
    if chosen == NIFTI:
        return nifti_response(layers.mask_nifti(finding), "mask.nii.gz")
    if chosen == DICOM:
        return dicom_response(layers.dicom_seg(finding), "seg.dcm")
    result = _patient_examination(service, finding, started, gradcam)
    service.keep(finding, result)
    return json_response(result.model_dump_json())


def _patient_examination(
    service: PredictionService, finding: Finding, started: float, gradcam: bool
) -> schemas.PatientExamination:
    volume = responses.volume_examination(finding, service.layers, started, gradcam=gradcam).model_dump()
    root = f"/results/{finding.key}"
    seg_url = f"{root}/seg.dcm" if finding.dicom_seg else None
    if finding.truth is None:
        return schemas.PatientExamination(**volume, truth=None, truth_url=None, dicom_seg_url=seg_url)
    agreements = compare_with_reference(finding.prediction, finding.truth)
    scores = {name: schemas.Agreement(**asdict(each)) for name, each in agreements.items()}
    whole = scores.get("all") or next(iter(scores.values()))
    truth = schemas.Truth(dice=whole.dice, iou=whole.iou, by_class=scores)
    truth_url = f"{root}/truth.nii.gz"
    return schemas.PatientExamination(**volume, truth=truth, truth_url=truth_url, dicom_seg_url=seg_url)


class _Examination:
    """The form of one request; its files are there as long as a DICOM-SEG may be made from them."""

    def __init__(self, service: PredictionService, form: dict[str, Any]) -> None:
        self._service, self._stored = service, ExitStack()
        slices, self._truth_file = form.pop("files"), form.pop("truth")
        self._grid = StackGrid(form.pop("slice_mm"), form.pop("pixel_mm"))
        self._grid.require_whole()
        if slices and any(form.values()):
            raise RequestError(400, "send the slices of a stack as `files`, or the other fields, not both")
        numbered = {f"slice {number}": file for number, file in enumerate(slices or ())}
        self._received = numbered or collect_uploads(**form)
        if self._truth_file is not None and SEGMENTATION not in service.pipeline.task_names:
            raise layers.no_task(SEGMENTATION, "a comparison with `truth`")
        self._reader = ExaminationReader(service.pipeline, service.reader, service.settings.max_upload_mib)
        self._truth: NDArray[np.bool_] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stored.close()

    def read(self) -> RequestInput:
        """Return the images, and keep the reference."""
        with translate_names(files := self._store(self._received, archives=True)):
            inputs = self._reader.read(files, self._grid)
        if self._truth_file is not None:
            from slicewise.tasks.build import find_segmentation  # imports torch, which graphs do without

            segmentation = find_segmentation(self._service.pipeline.tasks)
            assert segmentation is not None
            with translate_names(files := self._store({"truth": self._truth_file})):
                self._truth = read_reference(files["truth"].path, inputs.volume, segmentation)
        return inputs

    def complete(self, finding: Finding) -> Finding:
        """Return a finding with the reference, and its mask as DICOM-SEG if it is of DICOM."""
        case, prediction = finding.inputs.dicom, finding.prediction
        if case is None or prediction.masks is None:
            return replace(finding, truth=self._truth)
        try:
            content = encode_dicom_seg(case, prediction.masks, prediction.classes, prediction.fingerprint)
        except DataError as error:
            notes = (*finding.inputs.notes, str(error))
            return replace(finding, truth=self._truth, inputs=replace(finding.inputs, notes=notes))
        return replace(finding, truth=self._truth, dicom_seg=content)

    def _store(self, uploads: Mapping[str, Any], *, archives: bool = False) -> dict[str, StoredUpload]:
        return self._stored.enter_context(store_uploads(uploads, archives=archives))
