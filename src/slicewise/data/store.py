"""The slice store: writes and opens the slices of each case on disk.

`<root>/<source>/<case>-<12 hexadecimal digits>/` is one sealed entry:

    images.npy   float16 [S, M, N, N], only the M modalities that are present
    masks.npy    uint8   [S, N, N], labels
    entry.json   everything else; written last, names the size and SHA-256 of both arrays

An entry is built in a partial folder and renamed, so a killed run leaves whole entries or none. The digits
are a digest of the case's files and of the preprocessing settings.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.core.disk import describe_free_space, explain_disk_error, set_filename
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import is_safe_relative, read_json
from slicewise.core.hashing import digest, hash_file
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import Geometry, SlicedCase
from slicewise.imaging.volume import Presence

FORMAT: Final = 7
"""To be raised when the meaning of the stored slices changes: old entries are then not used any more."""
_ENTRY_FILE: Final = "entry.json"
_IMAGES_FILE: Final = "images.npy"
_MASKS_FILE: Final = "masks.npy"
_DTYPES: Final = {_IMAGES_FILE: np.dtype(np.float16), _MASKS_FILE: np.dtype(np.uint8)}
_IN_MEMORY_BYTES: Final = 1 << 20
"""Smaller arrays are read instead of mapped: each map holds a file handle, and there are many pictures."""
_PARTIAL: Final = ".partial-"
_DIGITS: Final = 12


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
            case = cls._from_json(folder, entry, read_json(folder / _ENTRY_FILE))
            sizes = {name: (folder / name).stat().st_size for name in case.files}
            sealed_sizes = {name: seal["bytes"] for name, seal in case.files.items()}
        except FileNotFoundError as error:
            raise WorkspaceError(f"{folder} is incomplete ({error}); run preprocessing again") from error
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError, OSError) as error:
            raise WorkspaceError(f"{folder} is damaged ({error!r}); move it aside and run again") from error
        for name, size in sizes.items():
            if size != sealed_sizes[name]:
                raise WorkspaceError(
                    f"{folder / name} has {size} bytes, not the sealed number; move {folder} aside"
                )
        return case

    @property
    def image_size(self) -> int:
        """Side of a slice in pixels."""
        return int(self.files[_MASKS_FILE]["shape"][-1])

    @property
    def stored_images(self) -> NDArray[np.float16]:
        """[S, M, N, N], read-only: only the M filled channels, in their order. Each access maps."""
        return self._array(_IMAGES_FILE)

    @property
    def images(self) -> NDArray[np.float16]:
        """[S, C, N, N], read-only where all channels are filled, else a copy with the empty ones added."""
        return self.read(slice(None))

    @property
    def masks(self) -> NDArray[np.uint8]:
        """[S, N, N] labels, read-only; zeros where there is no mask."""
        return self._array(_MASKS_FILE)

    def read(self, rows: slice | Sequence[int]) -> NDArray[np.float16]:
        """Return the images of some slices, [len(rows), C, N, N]; only those are read."""
        stored = self.stored_images[rows]
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
        num_slices = len(value["labels"])
        case = cls(
            entry=entry,
            folder=folder,
            key=CaseKey(value["source"], value["patient"], value["case"]),
            group=value["group"],
            labels=np.array(value["labels"], np.int8),
            indices=np.array(value["indices"], np.int32),
            included=_marks(value["seen"], num_slices),
            train=_marks(value["train"], num_slices),
            channels=tuple(map(str, value["channels"])),
            presence=tuple(map(bool, value["presence"])),
            has_mask=value["has_mask"],
            pixel_mm=None if value["pixel_mm"] is None else float(value["pixel_mm"]),
            slice_mm=float(value["slice_mm"]),
            geometry=Geometry.from_json(value["geometry"], value["indices"]),
            files={name: dict(value["files"][name]) for name in (_IMAGES_FILE, _MASKS_FILE)},
            remarks=tuple(map(str, value.get("remarks", ()))),
        )
        case._check()
        return case

    def _check(self) -> None:
        """Raise ValueError where the parts do not describe the same slices."""
        num_slices, num_present = len(self.labels), sum(self.presence)
        num_slots, size = self.files[_IMAGES_FILE]["shape"][1:3]
        shapes = {_IMAGES_FILE: [num_slices, num_slots, size, size], _MASKS_FILE: [num_slices, size, size]}
        sound = (
            all(self.files[name]["shape"] == shape for name, shape in shapes.items()),
            isinstance(self.group, str) and isinstance(self.has_mask, bool),
            self.labels.ndim == self.indices.ndim == 1 and len(self.indices) == num_slices,
            num_present > 0 and num_slots in (num_present, len(self.presence)),
            isinstance(size, int) and size > 0,
            len(self.channels) == len(self.presence),
        )
        if not all(sound):
            raise ValueError("its fields contradict each other")


def entry_id(key: CaseKey, case_digest: str, preprocessing: Preprocessing) -> str:
    """Return the name of a case's entry, `<source>/<case>-<digits>`; see `preprocess.case_digest`."""
    settings = preprocessing.model_dump(mode="json")
    whole = digest({"format": FORMAT, "key": str(key), "case": case_digest, "preprocessing": settings})
    return f"{key.source}/{key.case}-{whole[:_DIGITS]}"


class SliceStore:
    """Sealed entries below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __contains__(self, entry: object) -> bool:
        """Whether the entry is there and its files have the sizes they were sealed with."""
        try:
            self.open(str(entry))
        except WorkspaceError:
            return False
        return True

    def folder(self, entry: str) -> Path:
        """Return the entry's folder, whether it exists or not.

        Raises:
            WorkspaceError: the name leads out of the store.
        """
        if not is_safe_relative(entry):
            raise WorkspaceError(f"{entry!r} names no entry below {self.root}; run preprocessing again")
        return self.root / entry

    def open(self, entry: str) -> StoredCase:
        """Open an entry; its arrays are mapped, not read.

        Raises:
            WorkspaceError: it is missing or damaged.
        """
        return StoredCase.open(self.folder(entry), entry)

    def verify(self, entry: str, hash_of: Callable[[Path], str] = hash_file) -> None:
        """Compare an entry's arrays with their sealed digests; `hash_of` may be cached.

        Raises:
            WorkspaceError: it is missing or damaged.
        """
        folder = self.folder(entry)
        for name, facts in self.open(entry).files.items():
            if hash_of(folder / name) != facts["sha256"]:
                raise WorkspaceError(
                    f"{folder / name} has changed since it was written; move {folder} aside and run again"
                )

    def write(self, entry: str, case: SlicedCase, group: str, remarks: Sequence[str] = ()) -> None:
        """Seal the slices of a case. A damaged entry of that name is replaced, an intact one kept.

        Without fsync: after a power cut an unwritten file has the wrong size, and its entry is regenerated.
        `entry` is from `entry_id`, and `remarks` are the warnings from reading the case.

        Raises:
            WorkspaceError: the disk is full, or the folder cannot be written.
        """
        target = self.folder(entry)
        partial = target.with_name(f"{_PARTIAL}{target.name}-{secrets.token_hex(4)}")
        try:
            partial.mkdir(parents=True)
            description = _write_arrays(partial, case, group)
            description |= {"remarks": [*remarks]} if remarks else {}
            entry_text = json.dumps({**description, "digest": digest(description)}, allow_nan=False)
            (partial / _ENTRY_FILE).write_text(entry_text, encoding="utf-8")
            if entry not in self:
                if target.exists():
                    shutil.rmtree(target)
                partial.rename(target)
        except OSError as error:
            set_filename(error, target)
            # NumPy reports a short write without an error number.
            raise explain_disk_error(error, target) or WorkspaceError(
                f"{target} cannot be written ({error}; {describe_free_space(target)}); free some space, then "
                "run the same command again; finished entries are kept"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def adopt(self, other: "SliceStore") -> None:
        """Move the sealed entries of another store on the same disk here; intact ones of that name stay."""
        for folder in other.root.glob("*/[!.]*"):
            entry = folder.relative_to(other.root).as_posix()
            target = self.folder(entry)
            if entry in self:
                continue
            if target.exists():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has moved it
                folder.rename(target)

    def discard(self, path: Path) -> None:
        """Remove the whole entry of a damaged file, so that it is regenerated."""
        shutil.rmtree(self.root.joinpath(*path.relative_to(self.root).parts[:2]), ignore_errors=True)

    def sweep(self) -> None:
        """Remove unsealed entries of killed runs; only while no other process writes."""
        for partial in self.root.glob(f"*/{_PARTIAL}*"):
            shutil.rmtree(partial, ignore_errors=True)


def _write_arrays(partial: Path, case: SlicedCase, group: str) -> dict[str, Any]:
    """Write the arrays and return the content of `entry.json`."""
    filled = np.flatnonzero(case.presence)
    images = case.images if len(filled) == case.images.shape[1] else case.images[:, filled]
    files = {}
    for name, array in ((_IMAGES_FILE, images), (_MASKS_FILE, case.masks)):
        path = partial / name
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)
        files[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path), "shape": list(array.shape)}
    return {
        "format": FORMAT,
        "source": case.key.source,
        "patient": case.key.patient,
        "case": case.key.case,
        "group": group,
        "channels": list(case.channels),
        "presence": list(case.presence),
        "has_mask": case.has_mask,
        "pixel_mm": case.pixel_mm,
        "slice_mm": case.slice_mm,
        "geometry": case.geometry.to_json(),
        "files": files,
        "indices": case.indices.tolist(),
        "labels": case.labels.tolist(),
        "seen": np.flatnonzero(case.included).tolist(),
        "train": np.flatnonzero(case.train).tolist(),
    }


def _marks(places: Sequence[int], length: int) -> NDArray[np.bool_]:
    marks = np.zeros(length, np.bool_)
    marks[np.array(places, np.intp)] = True
    return marks
