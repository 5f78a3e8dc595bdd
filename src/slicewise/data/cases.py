"""The files of one case on disk, before any of them is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from slicewise.core.files import is_safe_relative
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES, LabelMap, Modality

CaseKind = Literal["nifti", "lgg", "picture"]


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        kind: "nifti": one volume per modality. "lgg": one TIFF per slice, channels are the modalities.
            "picture": one 2-D picture.
        modalities: nifti: that of each image. lgg: that of each channel. picture: the slot it fills.
        images: nifti: one per modality. lgg: the slices, first to last. picture: one.
        masks: nifti: none or one. lgg: one per slice. picture: none.
        label: pictures only: 1 tumour, 0 none.
        group: what stays in one subset of the split: the patient, or a family of near-identical pictures.
        labels: nifti: meaning of the mask values; None: that of BraTS, as far as they are unambiguous.
        copies: left-out files or folders with the same images; a given split may name them.
    """

    key: CaseKey
    kind: CaseKind
    modalities: tuple[Modality, ...]
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
        """The folder that holds the case's first file."""
        return self.images[0].parent

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
        astray = [name for name in (*value["images"], *value["masks"], *copies) if not is_safe_relative(name)]
        if astray or not value["images"]:
            raise ValueError(
                f"{astray[0]!r} leads out of the data set" if astray else "a case without images"
            )
        sound = (
            value["kind"] in get_args(CaseKind),
            all(modality in MODALITIES for modality in value["modalities"]),
            value["label"] in (None, 0, 1),
            isinstance(value["group"], str),
        )
        if not all(sound):
            raise ValueError(f"case {value['case']!r} has a field of another type")
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
