"""The files of one case: checked by headers and sizes before any work, then read as a volume.

Checking decompresses nothing. The voxels themselves (NaN, labels, a checksum) are checked on reading.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slicewise.config.schema.sources import SOURCES, settings_type
from slicewise.core.console import progress
from slicewise.core.errors import DataError
from slicewise.core.files import is_safe_relative
from slicewise.data.problems import Problem, summarise_problems
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MAX_CLASSES, LabelMap

if TYPE_CHECKING:
    from slicewise.data.sources.base import Source
    from slicewise.imaging.volume import Volume


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        kind: of the source that reads them, see `config.schema.sources.SOURCES`.
        modalities: brats: that of each image. lgg: that of each channel. A picture: the slot it fills.
        images: brats: one per modality. lgg: the slices, first to last. A picture: one.
        masks: brats: none or one. lgg: one per slice.
        label: of a picture without a mask: the number of its class, such as 1 tumour, 0 none.
        group: what stays in one subset of the split: the patient, or a family of near-identical pictures.
        labels: meaning of the mask values; None: that of BraTS, as far as they are unambiguous.
        copies: left-out files or folders with the same images; a given split may name them.
    """

    key: CaseKey
    kind: str
    modalities: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    label: int | None
    group: str
    labels: LabelMap | None = None
    copies: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case."""
        return self.images + self.masks

    @property
    def folder(self) -> Path:
        """That of the first file."""
        return self.images[0].parent

    @property
    def source(self) -> "type[Source[Any]]":
        """The kind of source that reads the case."""
        source: type[Source[Any]] = SOURCES[self.kind]
        return source

    @property
    def unit(self) -> Literal["volume", "picture"]:
        """Whether the case is a volume of many slices, or one picture."""
        return settings_type(self.kind).unit

    def read(self) -> "Volume":
        """Return the volume of the case.

        Raises:
            DataError: a file is damaged, or the files do not fit together.
        """
        return self.source.read(self)

    def check(self) -> list[Problem]:
        """Return the problems in the headers of the files, which are there and not empty."""
        return self.source.check(self)

    def to_json(self, root: Path, sizes: Mapping[Path, int] | None = None) -> dict[str, Any]:
        """Return a plain dict with paths relative to `root` where they lie below it, and sizes in bytes."""
        sizes = sizes or {}
        return {
            "source": self.key.source,
            "patient": self.key.patient,
            "case": self.key.case,
            "group": self.group,
            "kind": self.kind,
            "label": self.label,
            **({} if self.labels is None else {"labels": [list(pair) for pair in self.labels]}),
            "modalities": list(self.modalities),
            "images": {relative_name(path, root): sizes.get(path) for path in self.images},
            "masks": {relative_name(path, root): sizes.get(path) for path in self.masks},
            **({"copies": [relative_name(path, root) for path in self.copies]} if self.copies else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], root: Path) -> "CaseFiles":
        """Return the case that `to_json` described, its paths below the present `root`.

        Raises:
            ValueError: a file's name leads out of `root`, or a field has another type.
        """
        copies = value.get("copies", ())
        for name in (*value["images"], *value["masks"], *copies):
            if not is_safe_relative(name):
                raise ValueError(f"{name!r} leads out of the data set")
        sound = (
            bool(value["images"]),
            value["kind"] in SOURCES,
            all(isinstance(modality, str) for modality in value["modalities"]),
            value["label"] is None or (type(value["label"]) is int and 0 <= value["label"] < MAX_CLASSES),
            isinstance(value["group"], str),
        )
        if not all(sound):
            raise ValueError(f"case {value['case']!r} has no images, or a field of another type")
        labels = value.get("labels")
        return cls(
            key=CaseKey(value["source"], value["patient"], value["case"]),
            kind=value["kind"],
            modalities=tuple(value["modalities"]),
            images=tuple(root / name for name in value["images"]),
            masks=tuple(root / name for name in value["masks"]),
            label=value["label"],
            group=value["group"],
            labels=None if labels is None else tuple((int(stored), int(label)) for stored, label in labels),
            copies=tuple(root / name for name in copies),
        )


def relative_name(path: Path, root: Path) -> str:
    """Return `path` relative to `root` in POSIX form, or as it is where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def check_source(
    name: str, root: Path, cases: Sequence[CaseFiles], problems: Iterable[Problem] = ()
) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the usable cases of a source, and all its problems: those given, then those of each case.

    Raises:
        DataError: no case can be used; names the folder and the most frequent reasons.
    """
    usable: list[CaseFiles] = []
    known = list(problems)
    with ThreadPoolExecutor() as pool:
        checks = pool.map(check_case, cases)
        bar = progress(checks, desc="Checking the data", total=len(cases), unit="case")
        for case, faults in zip(cases, bar, strict=True):
            known += faults
            if all(fault.severity != "error" for fault in faults):
                usable.append(case)
    if not usable:
        errors = [problem for problem in known if problem.severity == "error"]
        reasons = summarise_problems(errors)
        raise DataError(f"{name}: none of the {len(cases)} cases in {root} can be used{reasons}")
    return usable, known


def check_case(case: CaseFiles) -> list[Problem]:
    """Return the problems in the headers of a case's files; with one of severity "error" it is unusable."""
    if absent := [path for path in case.files if not path.is_file()]:
        return [Problem(path, "the file is missing") for path in absent]
    if empty := [path for path in case.files if path.stat().st_size == 0]:
        return [Problem(path, "the file is empty") for path in empty]
    return case.check()


@dataclass(frozen=True, slots=True)
class ReadCase:
    """A case whose files were read."""

    volume: "Volume"
    files: CaseFiles | None = None
    """None for an array"""
    warnings: tuple[str, ...] = ()
    """About the files"""


def read_case(case: CaseFiles) -> ReadCase:
    """Return a case with its volume.

    Raises:
        DataError: a file is damaged, or the files do not fit together.
    """
    warnings = tuple(f"{problem.path.name}: {problem.what}" for problem in require_readable(case))
    return ReadCase(case.read(), case, warnings)


def require_readable(case: CaseFiles) -> list[Problem]:
    """Return the warnings about a case.

    Raises:
        DataError: it cannot be read; names each faulty file.
    """
    problems = check_case(case)
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise DataError("; ".join(map(str, errors)))
    return problems
