"""What belongs to a finding: its JSON, pictures, NIfTI."""

import json
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from starlette.responses import Response

from slicewise.serving.api import layers, schemas
from slicewise.serving.api.forms import StrictRoute
from slicewise.serving.api.layers import Layer
from slicewise.serving.api.routes.shared import (
    DICOM,
    NIFTI,
    NOT_FOUND,
    PNG,
    ServiceDep,
    dicom_response,
    json_response,
    nifti_response,
    png_response,
)

router = APIRouter(prefix="/results/{result}", tags=["results"], route_class=StrictRoute)
ClassName = Annotated[
    str | None,
    Query(
        alias="class", description="one of `mask_classes`; without it the largest probability of all classes"
    ),
]


@router.get("", response_model=schemas.AnyFinding, responses=NOT_FOUND)
async def result_json(result: str, service: ServiceDep) -> Response:
    """Return the response to the request that made this result, once more."""
    finding = await run_sync(service.results.get, result)
    return json_response(json.dumps(dict(finding.response)))


@router.get("/mask.nii.gz", response_class=Response, responses=NIFTI | NOT_FOUND)
async def mask_nifti(result: str, service: ServiceDep) -> Response:
    """Return the mask of a volume on the grid of its file: the number of the class in each voxel."""
    return nifti_response(await _of(service, result, layers.mask_nifti), "mask.nii.gz")


@router.get("/probability.nii.gz", response_class=Response, responses=NIFTI | NOT_FOUND)
async def probability_nifti(result: str, service: ServiceDep, name: ClassName = None) -> Response:
    """Return the probability of each voxel of a volume, of 0 to 1, on the grid of its file."""
    content = await _of(service, result, layers.probability_nifti, name)
    return nifti_response(content, "probability.nii.gz")


@router.get("/truth.nii.gz", response_class=Response, responses=NIFTI | NOT_FOUND)
async def truth_nifti(result: str, service: ServiceDep) -> Response:
    """Return the reference mask that was sent with a volume."""
    return nifti_response(await _of(service, result, layers.truth_nifti), "truth.nii.gz")


@router.get("/seg.dcm", response_class=Response, responses=DICOM | NOT_FOUND)
async def dicom_seg(result: str, service: ServiceDep) -> Response:
    """Return the mask of DICOM series as DICOM-SEG, which refers to them."""
    return dicom_response(await _of(service, result, layers.dicom_seg), "seg.dcm")


@router.get("/image/{channel}.nii.gz", response_class=Response, responses=NIFTI | NOT_FOUND)
async def image_nifti(result: str, channel: str, service: ServiceDep) -> Response:
    """Return a channel of a volume as it was read, uint8 or int16, in its own geometry."""
    return nifti_response(await _of(service, result, layers.image_nifti, channel), f"{channel}.nii.gz")


@router.get("/image.png", response_class=Response, responses=PNG | NOT_FOUND)
async def image_png(result: str, service: ServiceDep) -> Response:
    """Return a picture as it was read, in 8 or 16 bits."""
    return png_response(await _of(service, result, layers.picture_png, "image", None))


@router.get("/mask.png", response_class=Response, responses=PNG | NOT_FOUND)
async def mask_png(result: str, service: ServiceDep) -> Response:
    """Return the mask of a picture: 255 is the only class; of several the numbers, with their colours."""
    return png_response(await _of(service, result, layers.picture_png, "mask", None))


@router.get("/probability.png", response_class=Response, responses=PNG | NOT_FOUND)
async def probability_png(result: str, service: ServiceDep, name: ClassName = None) -> Response:
    """Return the probability of each pixel of a picture: 255 is 1."""
    return png_response(await _of(service, result, layers.picture_png, "probability", name))


@router.get("/slices/{index}.png", response_class=Response, responses=PNG | NOT_FOUND)
async def slice_png(
    result: str,
    index: int,
    service: ServiceDep,
    layer: Annotated[Layer, Query(description="what is drawn over the slice")] = "overlay",
) -> Response:
    """Return one slice of a volume, or the picture, for the screen."""
    return png_response(await _of(service, result, service.layers.slice_png, index, layer))


async def _of(service: ServiceDep, result: str, make: Any, *arguments: Any) -> bytes:
    """Return what `make` makes of a finding, in a thread."""

    def work() -> bytes:
        content: bytes = make(service.results.get(result), *arguments)
        return content

    return await run_sync(work)
