"""What is read and how it becomes slices."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, NonNegative, Positive, Section, Seed
from slicewise.domain.labels import LABEL_FORMATS, TUMOUR_LABELS, Modality

FolderName = Annotated[str, Field(pattern=r"^[^/\\]+$")]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]


_AUTO: Final = "auto"


def _check_labels(value: Any) -> str | dict[str, int]:
    """Take the name of a format, or a map of whole numbers to labels; its keys become text, as in JSON."""
    if isinstance(value, str) and value in (_AUTO, *LABEL_FORMATS):
        return value
    if isinstance(value, Mapping) and value:
        pairs = {str(value_text): label for value_text, label in value.items()}
        labels = (0, *TUMOUR_LABELS)
        if all(value_text.isdecimal() and label in labels for value_text, label in pairs.items()):
            return pairs
    raise ValueError(
        f"expected {', '.join((_AUTO, *LABEL_FORMATS))}, or a map of values to the labels 0 to 3 such as "
        "{1:3,2:1,3:1,4:2}"
    )


Labels = Annotated[str | dict[str, int], BeforeValidator(_check_labels)]


class VolumeSource(Section):
    """A data set with masks: NIfTI cases (brats), kaggle_3m slices (lgg), generated cases (phantom)."""

    kind: Literal["brats", "lgg", "phantom", "none"]
    """The layout of its files."""
    name: SourceName
    """What its patients and scores are listed under."""
    path: str | None
    """Folder to read. None: the data set is downloaded (or generated) below `data/raw/<name>`."""
    kaggle: str | None
    """`owner/dataset` on Kaggle, used when `path` is None."""
    mask: str | None
    """Pattern of the masks' file names, such as `*_tumor_seg*`; no other file then is a mask. None: found by
    the names. For `brats` alone."""
    labels: Labels
    """What the values of the masks mean: `brats2015`, `brats2021`, `brats2023`, `brats2024`, `brats_ped`,
    `msd`, or a map such as `{1:3,2:1,3:1,4:2}` to 1 necrosis and non-enhancing core, 2 edema, 3 enhancing
    tumour and 0 none. `auto`: BraTS 2017 to 2023. For `brats` alone."""
    phantom_patients: CountOrZero
    """How many virtual patients are known; they are generated when a mode asks for them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [key for key, there in (("mask", self.mask), ("labels", self.labels != _AUTO)) if there]
        if given and self.kind != "brats":
            key = " and ".join(given)
            raise ValueError(f"{key} is for kind brats, and kind is {self.kind}; leave {key} out")
        return self


Duplicates = Literal["group", "ignore"]


class PictureSource(Section):
    """A data set of single pictures sorted into yes/no folders."""

    kind: Literal["pictures", "phantom", "none"]
    name: SourceName
    path: str | None
    """As that of the volumes."""
    kaggle: str | None
    """As that of the volumes."""
    slot: Modality
    """The modality slot that a picture of unknown sequence fills."""
    duplicates: Duplicates
    """`group` uses identical pictures once and keeps near-identical ones on one side of the split; `ignore`
    takes every file for a patient of its own, which shows how much too good the figures then are."""
    train_only: tuple[FolderName, ...]
    """Folders directly below the data set whose pictures are only ever trained on: those of the other folders
    are tested. One of them that resembles one of another folder is left out."""
    phantom_pictures: CountOrZero
    """How many virtual pictures are known."""


class Data(Section):
    """The two sources of a run. Volumes are required; pictures may be `none`."""

    name: str
    synthetic: bool
    """True where the patients are generated; every result then says so."""
    volumes: VolumeSource
    pictures: PictureSource

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.volumes.kind == "none":
            raise ValueError("volumes.kind is none; the segmentation stages need a data set with masks")
        if self.pictures.kind != "none" and self.volumes.name == self.pictures.name:
            raise ValueError(f"volumes.name and pictures.name are both {self.volumes.name!r}")
        for key in ("volumes", "pictures"):
            source = getattr(self, key)
            if source.kind == "phantom" and source.path is not None:
                raise ValueError(
                    f"{key}.path names a folder, but {key}.kind is phantom: its patients are generated; "
                    f"choose the data set, e.g. data=brats or data=lgg, or leave {key}.path out"
                )
        generated = [key for key in ("volumes", "pictures") if getattr(self, key).kind == "phantom"]
        if generated and not self.synthetic:
            raise ValueError(
                f"synthetic is false, but {' and '.join(generated)} are generated (kind: phantom); "
                "set data.synthetic=true, so that every result says so"
            )
        return self


class Scale(Section):
    """How much of the known data a mode uses: a share, but never fewer than the floor (or all there are)."""

    fraction: Annotated[float, Field(gt=0, le=1)]
    """Share of the patients, and of the families of pictures."""
    min_patients: Count
    """Never fewer patients with volumes."""
    min_pictures: Count
    """Never fewer families of pictures."""


class Preprocessing(Section):
    """Volume or picture to normalised slices. Part of every checkpoint: serving repeats it exactly."""

    image_size: Annotated[int, Field(ge=32, le=512, multiple_of=32)]
    """Side of the square slice in pixels."""
    clip_percentiles: tuple[float, float]
    """Intensities inside the brain are clipped to these percentiles before the z-score."""
    crop_margin: Fraction
    """Margin kept around the brain's bounding box, as a share of its longer side."""
    min_brain_fraction: Fraction
    """A slice with less brain than this share of the largest slice is empty and dropped."""
    healthy_ratio: NonNegative
    """Training sees at most this many tumour-free slices per tumour slice of a case in one round."""
    max_train_slices: Count
    """Training sees at most this many slices of a case in one round, evenly spaced; the next takes others."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"clip_percentiles {low}, {high} must satisfy 0 <= low < high <= 100")
        return self


class SplitFractions(Section):
    """Shares of the patients in each subset, and what decides who is in which."""

    seed: Seed
    train: Positive
    val: Positive
    test: Positive
    folds: CountOrZero
    """Parts of a cross-validation, as `--folds`; 0 is a single split."""
    fold: CountOrZero
    """Which part is the test side, from 1; the pipeline sets it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}, not 1")
        if self.folds == 1:
            raise ValueError("folds is 1; cross-validation needs at least 2, and 0 is a single split")
        if self.fold > self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds} does not exist")
        return self


class SplitSettings(SplitFractions):
    """Shares of the patients on each side, which sum to 1; or, with `file` or `folders`, a split of your own.

    `seed` draws who goes where. It is not the seed of training: a sweep over that one keeps the split.

    With `folds` of 2 or more everyone is tested once: fold number `fold` (from 1) is the test side, and the
    others are divided between train and val in the ratio of their shares. 0 is a single split.
    """

    file: str | None
    """JSON or CSV that names the subset (train, val, test) of patients, cases, files or folders."""
    folders: bool
    """Take the subsets from folders of the data called train, val and test, or Training and so on."""
    unlisted: Literal["error", "exclude"]
    """What happens to cases that are in no subset of a given split that names train: `error` stops the run,
    `exclude` leaves them out. Without a name for train, they are train and val."""
    overlap: Literal["refuse", "exclude"]
    """What happens where patients, repeat visits, copies or near-identical pictures are in several given
    subsets: `refuse` stops the run, `exclude` leaves out of train and val what is tested."""

    @property
    def is_given(self) -> bool:
        """Whether the user names the subsets."""
        return self.file is not None or self.folders

    @model_validator(mode="after")
    def _check_given(self) -> Self:
        if self.file is not None and self.folders:
            raise ValueError("file and folders both give the subsets; leave one of them out")
        if self.is_given and self.folds:
            raise ValueError(
                "folds tests every patient once, and file or folders give one split; leave one of them out"
            )
        return self
