"""Examples of requests and responses, by route, for the OpenAPI document and the page at /docs."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING

_KEY: Final = "Zq3v8Tn0pXwLk2Bd"
_FINGERPRINT: Final = "9f2c4e" + "0" * 58
_ROOT: Final = f"/results/{_KEY}"
_PNG: Final = "iVBORw0KGgo..."
_POINT: Final[Mapping[str, Any]] = {
    "class_threshold": 0.42,
    "mask_threshold": 0.5,
    "class_mask_thresholds": {},
    "calibrated": True,
    "decision": "class from 0.42, uncertain from 0.326 to 0.521, temperature 1.8, mask from 0.5",
    "origin": "chosen on 40 validation patients of brats",
}
_COMMON: Final[Mapping[str, Any]] = {
    **_POINT,
    "tumour_probability": 0.93,
    "label": "tumour",
    "verdict": "tumour",
    "uncertain_band": [0.326, 0.521],
    "lesions": {"tumour": {"count": 1, "voxels": [23400], "ml": [23.4]}},
    "class_probabilities": {},
    "tasks": ["segmentation", "classification"],
    "mask_classes": [],
    "mask_exclusive": False,
    "synthetic": True,
    "warning": SYNTHETIC_WARNING,
    "note": None,
    "file_notes": [],
    "warnings": [],
    "modalities": ["flair"],
    "seconds": 0.81,
    "fingerprint": _FINGERPRINT,
    "notice": NOTICE,
}
_OF_PICTURE: Final[Mapping[str, Any]] = {
    **_COMMON,
    "lesions": {"tumour": {"count": 1, "voxels": [812], "ml": None}},
}
_PICTURE_LINKS: Final[Mapping[str, Any]] = {
    "id": _KEY,
    "image_urls": {"image": f"{_ROOT}/image.png"},
    "mask_url": f"{_ROOT}/mask.png",
    "probability_url": f"{_ROOT}/probability.png",
}
_VOLUME_LINKS: Final[Mapping[str, Any]] = {
    "id": _KEY,
    "image_urls": {"flair": f"{_ROOT}/image/flair.nii.gz"},
    "mask_url": f"{_ROOT}/mask.nii.gz",
    "probability_url": f"{_ROOT}/probability.nii.gz",
}
_SLICES: Final[list[dict[str, Any]]] = [
    {"index": 0, "probability": None, "tumour_mm2": 0.0},
    {"index": 1, "probability": 0.93, "tumour_mm2": 812.0},
]
_VOLUMETRY: Final[Mapping[str, Any]] = {
    "tumour_ml": 23.4,
    "class_ml": {},
    "num_slices": 2,
    "largest_slice": 1,
    "slices": _SLICES,
}
_PICTURE: Final[Mapping[str, Any]] = {
    **_PICTURE_LINKS,
    **_OF_PICTURE,
    "kind": "picture",
    "tumour_share": 0.031,
    "picture_png": _PNG,
    "mask_png": _PNG,
    "overlay_png": _PNG,
    "gradcam_png": None,
}
_VOLUME: Final[Mapping[str, Any]] = {
    **_VOLUMETRY,
    **_VOLUME_LINKS,
    **_COMMON,
    "kind": "volume",
    "key_slices": [{**_SLICES[1], "overlay_png": _PNG, "gradcam_png": None}],
}
_AGREEMENT: Final = {"dice": 0.87, "iou": 0.77, "reference_voxels": 24100, "predicted_voxels": 23400}
_CLASSIFICATION: Final[Mapping[str, Any]] = {
    **_OF_PICTURE,
    "kind": "picture",
    "slices": [{"index": 0, "probability": 0.93}],
}
_SEGMENTATION: Final[Mapping[str, Any]] = {
    **_VOLUMETRY,
    **_PICTURE_LINKS,
    **_OF_PICTURE,
    "kind": "picture",
    "tumour_ml": None,
    "num_slices": 1,
    "largest_slice": 0,
    "slices": [{"index": 0, "probability": 0.93, "tumour_mm2": 812.0}],
    "tumour_share": 0.031,
}
_PROBLEM: Final = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "second.png is damaged (image file is truncated); fetch it again or leave it out",
    "instance": "/classify/batch#8f3a60c2b1d4e597",
    "errors": [],
}
_MODEL: Final[Mapping[str, Any]] = {
    "fingerprint": _FINGERPRINT,
    "stage": "joint",
    "model": {"architecture": "unet", "encoder": "tu-tf_efficientnet_lite0"},
    "preprocessing": {"channels": ["t1", "t1ce", "t2", "flair"], "image_size": 160},
    "class_names": ["no_tumour", "tumour"],
    "metrics": {"dice": 0.81},
    "data_name": "phantom",
    "synthetic": True,
    "device": "cpu",
    "backend": "torch",
    "tasks": ["segmentation", "classification"],
    "flips": True,
    "rotation": 0.0,
    "mask_smoothing": 1.0,
    "class_smoothing": 1.0,
    "operating_points": {"volume": _POINT, "picture": _POINT},
    "max_upload_mib": 256,
    "max_batch": 32,
    "notice": NOTICE,
}


class Example(NamedTuple):
    """The example of one route; files of a form are named by `@`, as for curl."""

    response: Any = None
    """JSON, or text; None for bytes"""
    form: tuple[tuple[str, str], ...] = ()
    path: Mapping[str, Any] = {}
    query: Mapping[str, Any] = {}
    output: str = ""
    """The file that curl writes, where the response is no text"""


def _batch(result: Mapping[str, Any]) -> dict[str, Any]:
    items = [
        {"file": "first.png", "status": 200, "result": result, "problem": None},
        {"file": "second.png", "status": 422, "result": None, "problem": _PROBLEM},
    ]
    return {"results": items, "failed": 1, "seconds": 0.9}


_FILE: Final = (("file", "@picture.jpg"),)
_VOLUME_FILES: Final = (("t1ce", "@t1ce.nii.gz"), ("flair", "@flair.nii.gz"))
_BATCH: Final = (("files", "@first.png"), ("files", "@second.png"))
_RESULT: Final[Mapping[str, Any]] = {"result": _KEY}
_METRICS: Final = '# TYPE slicewise_requests_total counter\nslicewise_requests_total{method="POST",...} 1.0\n'
EXAMPLES: Final[Mapping[str, Example]] = {
    "GET /healthz": Example({"status": "ready", "fingerprint": _FINGERPRINT}),
    "GET /readyz": Example({"status": "ready", "running": 1, "waiting": 0}),
    "GET /model/info": Example(_MODEL),
    "GET /metrics": Example(_METRICS),
    "GET /queue": Example(
        {"running": 1, "waiting": 3, "capacity": 64, "position": 2, "since": "2026-01-31T12:00:00Z"},
        query={"request": "my-request-1"},
    ),
    "GET /cases": Example([{"name": "Phantom_10000", "modalities": ["t1", "t1ce", "t2", "flair"]}]),
    "POST /cases/{name}/predict": Example(_VOLUME, path={"name": "Phantom_10000"}),
    "POST /predict": Example(_PICTURE, form=_FILE, query={"gradcam": "true"}),
    "POST /classify": Example(_CLASSIFICATION, form=_FILE),
    "POST /classify/gradcam": Example(
        {**_CLASSIFICATION, "gradcam_slice": 0, "gradcam_png": _PNG}, form=_FILE
    ),
    "POST /classify/batch": Example(_batch(_CLASSIFICATION), form=_BATCH),
    "POST /segment": Example(_SEGMENTATION, form=_FILE),
    "POST /segment/uncertainty": Example(
        {
            **_SEGMENTATION,
            "passes": 4,
            "probability_deviation": 0.012,
            "volume_deviation_ml": None,
            "dice_of_passes": 0.94,
            "largest_deviation": 0.31,
        },
        form=_FILE,
    ),
    "POST /segment/batch": Example(_batch(_SEGMENTATION), form=_BATCH),
    "POST /patient/analyze": Example(
        {
            **_VOLUME,
            "truth": {"dice": 0.87, "iou": 0.77, "by_class": {"tumour": _AGREEMENT}},
            "truth_url": f"{_ROOT}/truth.nii.gz",
            "dicom_seg_url": None,
        },
        form=(*_VOLUME_FILES, ("truth", "@mask.nii.gz")),
    ),
    "GET /results/{result}": Example(_VOLUME, path=_RESULT),
    "GET /results/{result}/image/{channel}.nii.gz": Example(
        path={**_RESULT, "channel": "flair"}, output="flair.nii.gz"
    ),
    "GET /results/{result}/slices/{index}.png": Example(
        path={**_RESULT, "index": 77}, query={"layer": "overlay"}, output="slice.png"
    ),
    **{
        f"GET /results/{{result}}/{name}": Example(path=_RESULT, output=name)
        for name in (
            *("mask.nii.gz", "probability.nii.gz", "truth.nii.gz", "seg.dcm"),
            *("image.png", "mask.png", "probability.png"),
        )
    },
}
