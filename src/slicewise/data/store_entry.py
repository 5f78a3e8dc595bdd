"""One sealed entry of the slice store, open for reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.core.hashing import digest
from slicewise.domain.keys import CaseKey
from slicewise.imaging.geometry import Geometry
from slicewise.imaging.volume import Presence

FORMAT: Final = 6
"""To be raised when the meaning of the stored slices changes: old entries are then not used any more."""
ENTRY_FILE: Final = "entry.json"
IMAGES_FILE: Final = "images.npy"
MASKS_FILE: Final = "masks.npy"

_DTYPES: Final = {IMAGES_FILE: np.dtype(np.float16), MASKS_FILE: np.dtype(np.uint8)}
_IN_MEMORY_BYTES: Final = 1 << 20
"""Smaller arrays are read instead of mapped: each map holds a file handle, and there are many pictures."""


@dataclass(frozen=True)
class StoredCase:
    """The S slices of a case, N x N pixels each; see `imaging.slicing.SlicedCase` for the fields."""

    entry: str
    folder: Path
    key: CaseKey
    group: str
    labels: NDArray[np.int8]
    indices: NDArray[np.int32]
    included: NDArray[np.bool_]
    train: NDArray[np.bool_]
    channels: tuple[str, ...]
    presence: Presence
    has_mask: bool
    pixel_mm: float | None
    slice_mm: float
    geometry: Geometry
    files: dict[str, dict[str, Any]]
    """Bytes, SHA-256 and shape of each array file, as sealed."""
    remarks: tuple[str, ...] = ()
    """Warnings from reading the case."""

    @classmethod
    def open(cls, folder: Path, entry: str) -> Self:
        """Return an entry whose arrays have the sizes named in its description.

        Raises:
            WorkspaceError: the entry is missing, damaged or of another format.
        """
        try:
            case = cls._from_json(folder, entry, read_json(folder / ENTRY_FILE))
            sizes = {
                name: ((folder / name).stat().st_size, seal["bytes"]) for name, seal in case.files.items()
            }
        except FileNotFoundError as error:
            raise WorkspaceError(f"{folder} is incomplete ({error}); run preprocessing again") from error
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError, OSError) as error:
            raise WorkspaceError(f"{folder} is damaged ({error!r}); move it aside and run again") from error
        for name, (size, sealed) in sizes.items():
            if size != sealed:
                raise WorkspaceError(
                    f"{folder / name} has {size} bytes, not the sealed number; move {folder} aside"
                )
        return case

    @property
    def image_size(self) -> int:
        """Side of a slice in pixels."""
        return int(self.files[MASKS_FILE]["shape"][-1])

    @property
    def stored_images(self) -> NDArray[np.float16]:
        """[S, M, N, N], read-only: only the M filled channels, in their order. Each access maps."""
        return self._array(IMAGES_FILE)

    @property
    def images(self) -> NDArray[np.float16]:
        """[S, C, N, N], read-only where all channels are filled, else a copy with the empty ones added."""
        return self._all_channels(self.stored_images)

    @property
    def masks(self) -> NDArray[np.uint8]:
        """[S, N, N] labels 0..3, read-only; zeros where there is no mask."""
        return self._array(MASKS_FILE)

    def read(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return the images of some slices, [len(rows), C, N, N]; only those are read."""
        return self._all_channels(self.stored_images[np.asarray(rows, np.intp)])

    def _all_channels(self, stored: NDArray[np.float16]) -> NDArray[np.float16]:
        if stored.shape[1] == len(self.presence):
            return stored
        images = np.zeros((len(stored), len(self.presence), *stored.shape[2:]), np.float16)
        images[:, np.flatnonzero(self.presence)] = stored
        return images

    def _array(self, name: str) -> NDArray[Any]:
        path = self.folder / name
        try:
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy parses the header as Python, which fails in many ways
            raise WorkspaceError(
                f"{path} cannot be read ({error}); move {self.folder} aside and run again"
            ) from error
        if (mapped.dtype, list(mapped.shape)) != (_DTYPES[name], self.files[name]["shape"]):
            raise WorkspaceError(
                f"{path} holds {mapped.dtype} {mapped.shape}, unlike when sealed; move {self.folder} aside"
            )
        if mapped.nbytes > _IN_MEMORY_BYTES:
            return mapped
        array = np.array(mapped)
        array.flags.writeable = False
        return array

    @classmethod
    def _from_json(cls, folder: Path, entry: str, value: dict[str, Any]) -> Self:
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}, this version reads {FORMAT}")
        described = {name: part for name, part in value.items() if name != "digest"}
        if value.get("digest", digest(described)) != digest(described):
            raise ValueError("its digest differs")
        case = cls(
            entry=entry,
            folder=folder,
            key=CaseKey(value["source"], value["patient"], value["case"]),
            group=value["group"],
            labels=np.array(value["labels"], np.int8),
            indices=np.array(value["indices"], np.int32),
            included=_marks(value["seen"], len(value["labels"])),
            train=_marks(value["train"], len(value["labels"])),
            channels=tuple(map(str, value["channels"])),
            presence=tuple(map(bool, value["presence"])),
            has_mask=value["has_mask"],
            pixel_mm=None if value["pixel_mm"] is None else float(value["pixel_mm"]),
            slice_mm=float(value["slice_mm"]),
            geometry=Geometry.from_json(value["geometry"], value["indices"]),
            files={name: dict(value["files"][name]) for name in (IMAGES_FILE, MASKS_FILE)},
            remarks=tuple(map(str, value.get("remarks", ()))),
        )
        case._check()
        return case

    def _check(self) -> None:
        """Raise ValueError where the parts do not describe the same slices."""
        num_slices, num_present = len(self.labels), sum(self.presence)
        num_slots, size = self.files[IMAGES_FILE]["shape"][1:3]
        shapes = {IMAGES_FILE: [num_slices, num_slots, size, size], MASKS_FILE: [num_slices, size, size]}
        fits = all(self.files[name]["shape"] == shape for name, shape in shapes.items())
        types = isinstance(self.group, str) and isinstance(self.has_mask, bool)
        flat = self.labels.ndim == self.indices.ndim == 1 and len(self.indices) == num_slices
        slots = (
            num_slots in (num_present, len(self.presence))
            and num_present
            and isinstance(size, int)
            and size > 0
        )
        if not (fits and types and flat and slots and len(self.channels) == len(self.presence)):
            raise ValueError("its fields contradict each other")


def _marks(places: Sequence[int], length: int) -> NDArray[np.bool_]:
    marks = np.zeros(length, np.bool_)
    marks[np.array(places, np.intp)] = True
    return marks
