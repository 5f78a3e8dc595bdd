"""The slice store: writes and opens the slices of each case on disk.

`<root>/<source>/<case>-<12 hexadecimal digits>/` is one sealed entry:

    images.npy   float16 [S, M, N, N], only the M modalities that are present
    masks.npy    uint8   [S, N, N], labels 0..3
    entry.json   everything else; written last, names the size and SHA-256 of both arrays

An entry is built in a partial folder and renamed, so a killed run leaves whole entries or none. The digits
are a digest of the case's files and of the preprocessing settings.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.core.disk import describe_free_space, explain_disk_error, set_filename
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import is_safe_relative
from slicewise.core.hashing import digest, hash_file
from slicewise.data.store_entry import ENTRY_FILE, FORMAT, IMAGES_FILE, MASKS_FILE, StoredCase
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import SlicedCase

_PARTIAL: Final = ".partial-"
_DIGITS: Final = 12


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

        Args:
            entry: from `entry_id`.
            case: the slices.
            group: what stays in one subset of the split.
            remarks: warnings from reading the case.

        Raises:
            WorkspaceError: the disk is full, or the folder cannot be written.
        """
        target = self.folder(entry)
        partial = target.with_name(f"{_PARTIAL}{target.name}-{secrets.token_hex(4)}")
        try:
            partial.mkdir(parents=True)
            description = _describe(partial, case, group)
            description |= {"remarks": [*remarks]} if remarks else {}
            entry_text = json.dumps({**description, "digest": digest(description)}, allow_nan=False)
            (partial / ENTRY_FILE).write_text(entry_text, encoding="utf-8")
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

    def discard(self, path: Path) -> None:
        """Remove the whole entry of a damaged file, so that it is regenerated."""
        shutil.rmtree(self.root.joinpath(*path.relative_to(self.root).parts[:2]), ignore_errors=True)

    def sweep(self) -> None:
        """Remove unsealed entries of killed runs; only while no other process writes."""
        for partial in self.root.glob(f"*/{_PARTIAL}*"):
            shutil.rmtree(partial, ignore_errors=True)


def _describe(partial: Path, case: SlicedCase, group: str) -> dict[str, Any]:
    """Write the arrays and return the content of `entry.json`."""
    filled = [slot for slot, present in enumerate(case.presence) if present]
    images = case.images if len(filled) == case.images.shape[1] else case.images[:, filled]
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
        "files": {
            IMAGES_FILE: _write_array(partial / IMAGES_FILE, images),
            MASKS_FILE: _write_array(partial / MASKS_FILE, case.masks),
        },
        "indices": case.indices.tolist(),
        "labels": case.labels.tolist(),
        "seen": np.flatnonzero(case.included).tolist(),
        "train": np.flatnonzero(case.train).tolist(),
    }


def _write_array(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)
    return {"bytes": path.stat().st_size, "sha256": hash_file(path), "shape": list(array.shape)}
