"""One examination of a patient: volumes, a ZIP with its files, or a stack of slices; with a reference."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from slicewise.domain.labels import SEGMENTATION
from slicewise.evaluation.given_reference import compare_with_reference, read_reference
from slicewise.serving.api import layers, negotiation, responses, schemas
from slicewise.serving.api.archives import ExaminationReader, StackGrid
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.forms import StrictRoute, collect_uploads, patient_form
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.negotiation import JSON, NIFTI
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.routes import shared
from slicewise.serving.api.routes.shared import ServiceDep, json_response, nifti_response
from slicewise.serving.api.service import PredictionService
from slicewise.serving.api.uploads import store_uploads
from slicewise.tasks.build import find_segmentation


def make_router(channels: Sequence[str]) -> APIRouter:
    """Return the route; the form of uploads has a field for each of the channels of the model."""
    router = APIRouter(route_class=StrictRoute, tags=["patient"])
    form_type = patient_form(channels)

    @router.post(
        "/patient/analyze",
        response_model=schemas.PatientExamination,
        responses=shared.UPLOAD_PROBLEMS | shared.NOT_ACCEPTABLE | shared.NIFTI_TOO,
    )
    async def analyze(
        request: Request,
        service: ServiceDep,
        form: form_type,  # type: ignore[valid-type]
        gradcam: Annotated[bool, Query(description="also return the Grad-CAM of the key slices")] = False,
    ) -> Response:
        """Predict an examination: the curve over the slices, areas, volumes, lesions and key slices.

        `file` is a volume, or a ZIP with the files of one examination: NIfTI volumes, or slices of a stack.
        """
        accepted = negotiation.acceptable(request.headers.get("accept"), [JSON, NIFTI])
        examination = _Examination(service, dict(form))

        def respond(finding: Finding, started: float) -> Response:
            finding = replace(finding, truth=examination.truth)
            if accepted[0] == NIFTI:
                return nifti_response(layers.mask_nifti(finding), "mask.nii.gz")
            result = examination.respond(finding, started, gradcam=gradcam)
            service.keep(finding, result)
            return json_response(result.model_dump_json())

        return await service.examine(request, examination.read, respond)

    return router


class _Examination:
    """The form of one request: its files are read, and compared with the reference."""

    def __init__(self, service: PredictionService, form: dict[str, Any]) -> None:
        self._service = service
        slices, self._truth_file = form.pop("files"), form.pop("truth")
        self._grid = StackGrid(form.pop("slice_mm"), form.pop("pixel_mm"))
        self._grid.require_whole()
        if slices and any(form.values()):
            raise RequestError(400, "send the slices of a stack as `files`, or the other fields, not both")
        self._received = {f"slice {n}": file for n, file in enumerate(slices)} if slices else None
        if self._received is None:
            self._received = collect_uploads(**form)
        if self._truth_file is not None and SEGMENTATION not in service.pipeline.tasks:
            raise layers.no_task(SEGMENTATION, "a comparison with `truth`")
        self._reader = ExaminationReader(service.pipeline, service.reader, service.settings.max_upload_mib)
        self.truth: Any = None
        self._masks: Any = None

    def read(self) -> RequestInput:
        """Return the images, and keep the reference."""
        with store_uploads(self._received or {}, archives=True) as files:
            inputs = self._reader.read(files, self._grid)
        if self._truth_file is not None:
            with store_uploads({"truth": self._truth_file}) as files:
                self._read_truth(inputs, files["truth"])
        return inputs

    def _read_truth(self, inputs: RequestInput, file: Any) -> None:
        segmentation = find_segmentation(self._service.pipeline.tasks)
        assert segmentation is not None
        self._masks = read_reference(file.path, inputs.volume, segmentation)
        self.truth = self._service.pipeline.classes.numbers(self._masks)

    def respond(self, finding: Finding, started: float, *, gradcam: bool) -> schemas.PatientExamination:
        """Return the response."""
        volume = responses.volume_examination(finding, self._service.layers, started, gradcam=gradcam)
        if self._masks is None:
            return schemas.PatientExamination(**volume.model_dump(), truth=None, truth_url=None)
        agreements = compare_with_reference(finding.prediction, self._masks)
        scores = {name: schemas.Agreement(**asdict(each)) for name, each in agreements.items()}
        whole = scores.get("all") or next(iter(scores.values()))
        truth = schemas.Truth(dice=whole.dice, iou=whole.iou, by_class=scores)
        url = f"/results/{finding.key}/truth.nii.gz"
        return schemas.PatientExamination(**volume.model_dump(), truth=truth, truth_url=url)
