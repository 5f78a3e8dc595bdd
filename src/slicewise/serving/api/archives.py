"""One examination as a ZIP or as a stack of pictures."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.core.disk import MIB
from slicewise.core.errors import DataError, DownloadError
from slicewise.data.cases import CaseFiles, read_case
from slicewise.data.dicom_cases import DicomCase
from slicewise.data.download.archive import unpack_zip
from slicewise.imaging.volume import Volume, array_orientation
from slicewise.inference.pipeline import Pipeline
from slicewise.serving.api.input_files import MEGA, InputReader, RequestInput
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.uploads import StoredUpload

_MAX_GROWTH: Final = 4
"""An archive may unpack to so many times the largest upload."""
_DIGITS: Final = re.compile(r"(\d+)")


@dataclass(frozen=True)
class StackGrid:
    """Sizes of the voxels of a stack of pictures in mm; None where they are not known."""

    slice_mm: float | None = None
    pixel_mm: float | None = None

    def require_whole(self) -> None:
        """Refuse one size without the other.

        Raises:
            RequestError: 400.
        """
        if (self.slice_mm is None) != (self.pixel_mm is None):
            missing = "slice_mm" if self.slice_mm is None else "pixel_mm"
            message = "send both slice_mm and pixel_mm, or none of them"
            raise RequestError(400, message, faults={missing: "missing"})


@dataclass(frozen=True)
class ExaminationReader:
    """Reads one examination: volumes, a ZIP, or the slices of a stack."""

    pipeline: Pipeline
    files: InputReader
    max_upload_mib: int

    def read(self, files: Mapping[str, StoredUpload], grid: StackGrid) -> RequestInput:
        """Return what the files of a request hold.

        Raises:
            RequestError: 400, 413 or 422; it says what was expected.
            DataError: a file is damaged.
        """
        uploads = [*files.values()]
        archives = [file for file in uploads if file.kind == "archive"]
        if archives and len(uploads) > 1:
            raise RequestError(
                400, f"{archives[0].name} is a ZIP archive; send it alone, with the whole case"
            )
        if archives:
            return self._read_archive(archives[0], grid)
        if {file.kind for file in uploads} == {"picture"}:
            self.files.require_size(uploads)
            names = {file.name: file for file in uploads}
            if len(names) < len(uploads):
                raise RequestError(400, "two slices have the same file name, which gives their order")
            slices = [self.files.read({"unnamed": names[name]}) for name in natural_order(names)]
            return self._stack([each.volume for each in slices], natural_order(names), grid)
        if grid != StackGrid():
            raise RequestError(
                400, "slice_mm and pixel_mm are for stacks of pictures; these files state their voxels"
            )
        return self.files.read(files)

    def _read_archive(self, archive: StoredUpload, grid: StackGrid) -> RequestInput:
        folder = archive.path.with_name(f"{archive.path.stem}-files")
        self._unpack(archive, folder)
        try:
            return self._read_folder(archive.name, folder, grid)
        except DataError as error:
            raise RequestError(422, _without_folder(str(error), folder, archive.name)) from error

    def _read_folder(self, name: str, folder: Path, grid: StackGrid) -> RequestInput:
        cases, problems = self.pipeline.find([folder])
        volumes = [case for case in cases if case.unit == "volume"]
        if not cases:
            raise DataError(f"{name}: {'; '.join(map(str, problems[:5])) or 'it is empty'}")
        if len(volumes) > 1:
            names = ", ".join(case.key.case for case in volumes[:5])
            raise DataError(
                f"{name} holds {len(volumes)} examinations ({names}); pack each into a .zip of its own"
            )
        if volumes:
            read = read_case(volumes[0])
            faults = [str(problem) for problem in problems if problem.severity != "note"]
            notes = (*faults, *read.warnings, *read.volume.remarks)
            self._require_size(name, read.volume)
            dicom = read.files if isinstance(read.files, DicomCase) else None
            certain = [f"{dicom.folder.name}: {line}" for line in dicom.certain] if dicom else []
            said, remarks = (
                tuple(_without_folder(note, folder, name) for note in some) for some in (notes, certain)
            )
            return RequestInput(read.volume, "volume", said, dicom=dicom, remarks=remarks)
        paths = {case.images[0].relative_to(folder).as_posix(): case for case in cases}
        order = natural_order(paths)
        return self._stack([_read_slice(paths[each]) for each in order], order, grid)

    def _unpack(self, archive: StoredUpload, folder: Path) -> None:
        try:
            with zipfile.ZipFile(archive.path) as content:
                size = sum(entry.file_size for entry in content.infolist())
            if size > _MAX_GROWTH * self.max_upload_mib * MIB:
                raise RequestError(
                    413,
                    f"{archive.name} unpacks to {size / MIB:,.0f} MiB; at most "
                    f"{_MAX_GROWTH * self.max_upload_mib:,} are accepted",
                )
            unpack_zip(archive.path, folder)
        except (DownloadError, zipfile.BadZipFile) as error:
            raise RequestError(422, str(error).replace(str(archive.path), archive.name)) from error

    def _stack(self, slices: Sequence[Volume], names: Sequence[str], grid: StackGrid) -> RequestInput:
        """Return pictures as the slices of a volume, in their order from the feet to the head."""
        grid.require_whole()
        first = slices[0]
        for name, each in zip(names, slices, strict=True):
            if (each.shape, each.channels, each.presence) != (first.shape, first.channels, first.presence):
                raise DataError(
                    f"{name} is {_describe(each)} and {names[0]} {_describe(first)}; the slices of a stack "
                    "have one size and one kind of colour"
                )
        images: NDArray[Any] = np.concatenate([each.images for each in slices], axis=1)
        volume = replace(first, images=images, remarks=tuple(dict.fromkeys(_remarks(names, slices))))
        if grid.slice_mm is not None and grid.pixel_mm is not None:
            spacing = (grid.slice_mm, grid.pixel_mm, grid.pixel_mm)
            orientation = array_orientation(volume.shape, spacing)
            volume = replace(volume, spacing=orientation.spacing(), orientation=orientation)
        self._require_size("the stack", volume)
        return RequestInput(volume, "volume", volume.remarks, is_stack=True)

    def _require_size(self, name: str, volume: Volume) -> None:
        size = volume.images[0].size
        if size > self.files.max_megapixels * MEGA:
            raise RequestError(
                413,
                f"{name} has {size / MEGA:.1f} million voxels; send at most "
                f"{self.files.max_megapixels:g} million",
            )


def natural_order(names: Mapping[str, Any]) -> list[str]:
    """Return names in their order with numbers counted: slice_9 before slice_10."""
    return sorted(
        names,
        key=lambda name: [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name)],
    )


def _without_folder(message: str, folder: Path, name: str) -> str:
    """Return a message about unpacked files with their names in the archive."""
    return message.replace(f"{folder}/", "").replace(str(folder), name).replace(folder.name, name)


def _read_slice(case: CaseFiles) -> Volume:
    return read_case(case).volume


def _remarks(names: Sequence[str], slices: Sequence[Volume]) -> list[str]:
    return [f"{name}: {text}" for name, each in zip(names, slices, strict=True) for text in each.remarks]


def _describe(volume: Volume) -> str:
    _, rows, cols = volume.shape
    colours = "in colour" if sum(volume.presence) > 1 else "grey"
    return f"{cols} x {rows} pixels, {colours},"
