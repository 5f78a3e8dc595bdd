"""Findings as the API returns them, and a client that returns them without an API."""

import base64
from typing import Any

from slicewise.core.errors import ServingError

INFO: dict[str, Any] = {
    "model": {"architecture": "unet", "encoder": "resnet18"},
    "stage": "joint",
    "data_name": "phantom",
    "synthetic": True,
    "tasks": ["segmentation", "classification"],
    "class_names": ["no_tumour", "tumour"],
    "preprocessing": {"channels": ["t1", "t1ce", "t2", "flair"], "image_size": 64},
    "operating_points": {
        "volume": {
            "class_threshold": 0.5,
            "mask_threshold": 0.5,
            "class_mask_thresholds": {},
            "calibrated": False,
            "origin": "configured",
        }
    },
    "device": "cpu",
    "backend": "torch",
    "fingerprint": "f" * 64,
    "metrics": {"dice": 0.5},
    "max_upload_mib": 8,
}
_COMMON: dict[str, Any] = {
    "id": "abc",
    "seconds": 0.1,
    "fingerprint": "f" * 64,
    "tasks": ["segmentation", "classification"],
    "synthetic": True,
    "warnings": [],
    "label": "tumour",
    "verdict": "tumour",
    "tumour_probability": 0.7,
    "class_threshold": 0.5,
    "uncertain_band": [0.45, 0.55],
    "mask_threshold": 0.5,
    "class_mask_thresholds": {},
    "calibrated": True,
    "origin": "configured",
    "modalities": ["t1", "flair"],
    "class_probabilities": {},
    "mask_classes": [],
    "mask_exclusive": False,
    "lesions": {"tumour": {"count": 2, "voxels": [1000, 500], "ml": [1.0, 0.5]}},
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""A single black pixel"""


def volume(num_slices: int = 3, **fields: Any) -> dict[str, Any]:
    """Return the finding of a volume with the most tumour in its last slice."""
    slices = [{"index": place, "probability": 0.7, "tumour_mm2": 50.0} for place in range(num_slices)]
    of_a_volume = {
        "kind": "volume",
        "num_slices": num_slices,
        "tumour_ml": 1.5,
        "class_ml": {},
        "largest_slice": num_slices - 1,
        "slices": slices,
        "key_slices": [{**slices[-1], "overlay_png": PNG, "gradcam_png": None}],
        "mask_url": "/results/abc/mask.nii.gz",
    }
    return _COMMON | of_a_volume | fields


def picture(**fields: Any) -> dict[str, Any]:
    """Return the finding of a picture."""
    pngs = {f"{name}_png": PNG for name in ("picture", "mask", "overlay", "gradcam")}
    of_a_picture = {"kind": "picture", "tumour_share": 0.02, "mask_url": "/results/abc/mask.png"}
    return _COMMON | of_a_picture | pngs | fields


def regions(**fields: Any) -> dict[str, Any]:
    """Return that of a model of two regions that overlap, the first with a threshold of its own."""
    of_regions = {
        "mask_classes": ["whole_tumour", "tumour_core"],
        "class_ml": {"whole_tumour": 1.25, "tumour_core": None},
        "class_mask_thresholds": {"whole_tumour": 0.4},
        "lesions": {
            "whole_tumour": {"count": 1, "voxels": [10], "ml": [1.25]},
            "tumour_core": {"count": 0, "voxels": [], "ml": []},
        },
    }
    return volume(**{**of_regions, **fields})


class FakeClient:
    """A client whose API holds one finding and returns it to every request."""

    def __init__(self, finding: dict[str, Any], info: dict[str, Any] = INFO) -> None:
        self.known, self.info = finding, info
        self.sent: list[Any] = []

    def close(self) -> None:
        """There is nothing to close."""

    def model_info(self) -> Any:
        return self.info

    def cases(self) -> Any:
        return [{"name": "Phantom_1", "modalities": ["flair"]}]

    def finding(self, key: str) -> Any:
        if key != self.known["id"]:
            raise ServingError("This finding is no longer stored; examine the files again.")
        return self.known

    def predict_case(self, name: str, *, request: str = "") -> Any:
        return self.known

    def predict_files(self, files: Any, modality: str | None = None, *, request: str = "") -> Any:
        self.sent.append(([name for name, _ in files], modality))
        if any(b"damaged" in content for _, (_, content) in files):
            raise ServingError("It is damaged.")
        return self.known

    def analyze_patient(self, files: Any, modality: str | None = None, *, request: str = "") -> Any:
        return self.predict_files(files, modality)

    def place_in_queue(self, request: str) -> int | None:
        return 2

    def download(self, path: str) -> bytes:
        return base64.b64decode(PNG)
