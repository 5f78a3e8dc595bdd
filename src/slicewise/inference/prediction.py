"""The prediction for one case, as the evaluation makes it, and its forms: a row, JSON, and mask files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.core.disk import set_filename
from slicewise.core.files import atomic_write
from slicewise.data.cases import CaseFiles
from slicewise.data.store import StoredCase
from slicewise.domain.classes import TUMOUR, Classes
from slicewise.domain.labels import CLASSIFICATION, NOTICE, SEGMENTATION, SYNTHETIC_WARNING, TASKS, Task
from slicewise.imaging.io.image2d import to_png
from slicewise.imaging.io.nifti import nifti_bytes, write_nifti
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import SlicedCase, restore_to_volume
from slicewise.inference.operating_points import InputKind, OperatingPoint
from slicewise.inference.postprocess import tumour_probability

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Verdict = Literal["tumour", "no_tumour"]

_MM3_PER_ML: Final = 1000.0
_WHITE: Final = np.uint8(255)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """One case in a table: its prediction, the thresholds, and where the mask is; or the error."""

    case: str
    path: str
    kind: str | None
    modalities: str | None = None
    mask: str | None = None
    """File or folder beside the table"""
    verdict: str | None = None
    tumour_probability: float | None = None
    """Calibrated or raw; the verdict is a tumour from `class_threshold` on"""
    class_threshold: float | None = None
    calibrated: bool | None = None
    volume_ml: float | None = None
    mask_threshold: float | None = None
    chosen: str | None = None
    """Where thresholds and calibration come from"""
    synthetic: bool
    fingerprint: str
    note: str | None = None
    """Warnings about the files"""
    error: str | None = None
    """Why there is no prediction; the columns of one are empty then"""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Of several classes `volume_ml_<class>`, a column each"""

    def to_json(self) -> dict[str, Any]:
        """Return the columns by name."""
        columns = asdict(self)
        scores = columns.pop("scores")
        return {**columns, **scores}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The result for one case of S slices; a picture is a volume of one slice.

    All that depends on a task that the model does not have is None.
    """

    slices: SlicedCase | StoredCase
    mask_probability: Floats
    """[S, K, N, N] from the model for K classes, 0 outside the brain"""
    class_probability: Floats
    """[S] from the model, raw"""
    kind: InputKind
    """Whose thresholds apply"""
    point: OperatingPoint
    tasks: tuple[Task, ...] = TASKS
    classes: Classes = TUMOUR
    """Of a pixel"""
    spacing: tuple[float, float, float] | None = None
    """mm between voxels along (slice, row, col)"""
    orientation: Orientation | None = None
    """The grid of the files; None where they have no voxel sizes"""
    files: CaseFiles | None = None
    """None for arrays and stored slices"""
    fingerprint: str = ""
    """Of the model"""
    synthetic: bool = False
    """Whether the model was trained on generated patients only"""
    warnings: tuple[str, ...] = ()
    """About the files"""

    @property
    def case(self) -> str:
        return self.slices.key.case

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the case holds."""
        pairs = zip(self.slices.channels, self.slices.presence, strict=True)
        return tuple(name for name, here in pairs if here)

    @cached_property
    def probabilities(self) -> NDArray[np.float64] | None:
        """[S] tumour probability of each slice, calibrated where the evaluation calibrated."""
        if CLASSIFICATION not in self.tasks:
            return None
        return self.point.postprocessing.probabilities(self.class_probability)

    @cached_property
    def tumour_probability(self) -> float | None:
        """The tumour probability of the whole case; see `postprocess.tumour_probability`."""
        if self.probabilities is None:
            return None
        return tumour_probability(self.probabilities[self.slices.included])

    @property
    def verdict(self) -> Verdict | None:
        """Whether the tumour probability of the whole case reaches the threshold."""
        if self.tumour_probability is None:
            return None
        reached = self.tumour_probability >= self.point.postprocessing.class_threshold
        return "tumour" if reached else "no_tumour"

    @cached_property
    def slice_masks(self) -> Bools | None:
        """[S, K, N, N] the mask of each class on the grid of the slices."""
        if SEGMENTATION not in self.tasks:
            return None
        masks = self.point.postprocessing.masks(
            self.mask_probability, self.class_probability, self.slices.indices.tolist(), self.classes
        )
        return np.asarray(masks & np.any(self.slices.images != 0, axis=1, keepdims=True))

    @cached_property
    def slice_mask(self) -> Bools | None:
        """[S, N, N] the masks of all classes as one."""
        return None if self.slice_masks is None else np.any(self.slice_masks, axis=1)

    @cached_property
    def masks(self) -> Bools | None:
        """[K, slice, row, col] the mask of each class on the volume's own grid."""
        if self.slice_masks is None:
            return None
        threshold = self.point.postprocessing.mask_threshold
        # Components are removed before the mask is restored, so that the others keep a smooth outline.
        removed = self.classes.decide(self.mask_probability, threshold) & ~self.slice_masks
        kept = np.where(removed, np.float32(0), self.mask_probability)
        restored = [restore_to_volume(each, self.slices.geometry) for each in kept.swapaxes(0, 1)]
        return np.asarray(self.classes.decide(np.stack(restored)[None], threshold)[0])

    @cached_property
    def mask(self) -> Bools | None:
        """[slice, row, col] the masks of all classes as one, on the volume's own grid."""
        return None if self.masks is None else np.any(self.masks, axis=0)

    @property
    def class_numbers(self) -> NDArray[np.uint8] | None:
        """[slice, row, col] the number of the class of each voxel, from 1 on; 0 is the background.

        Where classes overlap it is the last of them.
        """
        return None if self.masks is None else self.classes.numbers(self.masks)

    @cached_property
    def volume_ml(self) -> float | None:
        """Millilitres of the mask; None where the files do not give the size of their voxels."""
        return None if self.mask is None else self._millilitres(self.mask)

    @property
    def class_volumes_ml(self) -> dict[str, float | None]:
        """Millilitres of each of several classes, by name; empty for a single class."""
        if self.masks is None or not self.classes.several:
            return {}
        pairs = zip(self.classes.names, self.masks, strict=True)
        return {name: self._millilitres(mask) for name, mask in pairs}

    def _millilitres(self, mask: Bools) -> float | None:
        if self.orientation is None or self.spacing is None:
            return None
        return float(np.count_nonzero(mask)) * float(np.prod(self.spacing)) / _MM3_PER_ML

    @property
    def note(self) -> str | None:
        """The warnings about the files; None without any."""
        return "; ".join(self.warnings) or None

    def to_row(self, mask: str | None = None) -> PredictionRow:
        """Return the row of a table; `mask` is what `save_mask` returned."""
        files, post = self.files, self.point.postprocessing
        path = None if files is None else files.images[0] if len(files.images) == 1 else files.folder
        is_classified = self.verdict is not None
        return PredictionRow(
            case=self.case,
            path=str(path or ""),
            kind=self.kind,
            modalities=" ".join(self.modalities),
            mask=mask,
            verdict=self.verdict,
            tumour_probability=self.tumour_probability,
            class_threshold=post.class_threshold if is_classified else None,
            calibrated=self.point.calibrated if is_classified else None,
            volume_ml=self.volume_ml,
            mask_threshold=None if self.mask is None else post.mask_threshold,
            chosen=self.point.origin,
            synthetic=self.synthetic,
            fingerprint=self.fingerprint,
            note=self.note,
            scores={f"volume_ml_{name}": volume for name, volume in self.class_volumes_ml.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the row with the notice, and the warning of a model of generated patients."""
        warning = SYNTHETIC_WARNING if self.synthetic else None
        return {"notice": NOTICE, "warning": warning, **self.to_row().to_json()}

    def mask_nifti(self) -> bytes:
        """Return the mask as .nii.gz with the geometry of the files: 1 is the first class, 2 the second.

        Raises:
            ValueError: there is no mask, or the files have no voxel grid.
        """
        if self.class_numbers is None or self.orientation is None:
            raise ValueError(f"{self.case} has no mask on a voxel grid")
        return nifti_bytes(self.class_numbers, self.orientation, compressed=True)

    def save_mask(self, folder: Path) -> str | None:
        """Write the mask on the grid of the files into `folder`; return its name there, None without a mask.

        One NIfTI for a volume (1 is the first class, 2 the second, ...), one PNG for a picture (255 is the
        only class; of several the numbers, with their colours), and a folder with a PNG per slice for slices
        without a voxel grid. Classes that overlap have one of these each, `<case>_<class>_mask`, and the
        names are separated by `; `. It takes its name when it is complete, and replaces one of that name as a
        whole.
        """
        if self.masks is None:
            return None
        return "; ".join(self._save(folder, name, numbers) for name, numbers in self._mask_files())

    def _mask_files(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield the stem of each mask file, and its numbers [slice, row, col]."""
        assert self.masks is not None
        if self.classes.exclusive or not self.classes.several:
            yield f"{self.case}_mask", self.classes.numbers(self.masks)
            return
        for name, mask in zip(self.classes.names, self.masks, strict=True):
            yield f"{self.case}_{name}_mask", mask.astype(np.uint8)

    def _save(self, folder: Path, stem: str, numbers: NDArray[np.uint8]) -> str:
        if self.orientation is not None:
            write_nifti(folder / f"{stem}.nii.gz", numbers, self.orientation)
            return f"{stem}.nii.gz"
        palette = self.classes.colours if self.classes.exclusive else ()
        pixels = numbers if palette else numbers * _WHITE
        if self.kind == "volume":
            indices = [f"{index:03d}" for index in range(len(numbers))]
            names = [path.stem for path in self.files.images] if self.files else indices
            _write_slices(folder / stem, names, [to_png(part, palette) for part in pixels])
            return stem
        with atomic_write(folder / f"{stem}.png") as stream:
            stream.write(to_png(pixels[0], palette))
        return f"{stem}.png"


def _write_slices(folder: Path, names: Sequence[str], pictures: Sequence[bytes]) -> None:
    """Write a PNG per slice into a new folder; an existing one is replaced once it is complete, else kept."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            complete, backup = Path(temporary) / "new", Path(temporary) / "old"
            complete.mkdir()
            for name, picture in zip(names, pictures, strict=True):
                (complete / f"{name}_mask.png").write_bytes(picture)
            if folder.exists():
                folder.rename(backup)
            try:
                complete.rename(folder)
            except BaseException:
                if backup.exists():
                    backup.rename(folder)
                raise
    except OSError as error:
        set_filename(error, folder)
        raise
