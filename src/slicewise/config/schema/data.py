"""Data sets, the amount of data, preprocessing and the split."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, NonNegative, Positive, Section, Seed
from slicewise.domain.labels import LABEL_FORMATS, TUMOUR_LABELS, Modality

FolderName = Annotated[str, Field(pattern=r"^[^/\\]+$")]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]

_AUTO: Final = "auto"


def _check_labels(value: Any) -> str | dict[str, int]:
    """Return the name of a format, or a map of mask values to labels with text keys, as in JSON."""
    if isinstance(value, str) and value in (_AUTO, *LABEL_FORMATS):
        return value
    if isinstance(value, Mapping) and value:
        pairs = {str(key): label for key, label in value.items()}
        if all(key.isdecimal() and label in (0, *TUMOUR_LABELS) for key, label in pairs.items()):
            return pairs
    raise ValueError(
        f"expected {', '.join((_AUTO, *LABEL_FORMATS))}, or a map of values to the labels 0 to 3 such as "
        "{1:3,2:1,3:1,4:2}"
    )


Labels = Annotated[str | dict[str, int], BeforeValidator(_check_labels)]


class VolumeSource(Section):
    """A data set with masks: NIfTI volumes (brats), kaggle_3m slices (lgg), generated volumes (phantom)."""

    kind: Literal["brats", "lgg", "phantom", "none"]
    """File layout."""
    name: SourceName
    """Name in tables and reports."""
    path: str | None
    """Folder of the data set. None: downloaded (or generated) to `data/raw/<name>`."""
    kaggle: str | None
    """`owner/dataset` on Kaggle, used when `path` is None."""
    mask: str | None
    """Pattern of the masks' file names, such as `*_tumor_seg*`. None: the usual names. For `brats` only."""
    labels: Labels
    """Meaning of the mask values: `brats2015`, `brats2021`, `brats2023`, `brats2024`, `brats_ped`, `msd`, or
    a map such as `{1:3,2:1,3:1,4:2}` to 1 necrosis and non-enhancing core, 2 edema, 3 enhancing tumour and 0
    none. `auto`: BraTS 2017 to 2023. For `brats` only."""
    phantom_patients: CountOrZero
    """Number of virtual patients; those that a mode uses are generated."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = ["mask"] * bool(self.mask) + ["labels"] * (self.labels != _AUTO)
        if given and self.kind != "brats":
            key = " and ".join(given)
            raise ValueError(f"{key} is for kind brats, and kind is {self.kind}; leave {key} out")
        return self


Duplicates = Literal["group", "ignore"]


class PictureSource(Section):
    """A data set of single images in yes/no folders."""

    kind: Literal["pictures", "phantom", "none"]
    name: SourceName
    path: str | None
    """As that of the volumes."""
    kaggle: str | None
    """As that of the volumes."""
    slot: Modality
    """Input channel of images of unknown modality."""
    duplicates: Duplicates
    """`group` uses identical images once and keeps near-identical ones in one subset; `ignore` treats every
    file as a patient, which shows how far duplicates inflate the scores."""
    train_only: tuple[FolderName, ...]
    """Top-level folders used for training only; the images of the other folders are tested. An image here
    that is near-identical to one of them is excluded."""
    phantom_pictures: CountOrZero
    """Number of virtual images."""


class Data(Section):
    """The data sets of a run. Volumes are required; `pictures.kind` may be `none`."""

    name: str
    synthetic: bool
    """True where patients are generated; every result then says so."""
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
    """How much of the data a mode uses: a share, but not fewer than the minimum (or all)."""

    fraction: Annotated[float, Field(gt=0, le=1)]
    """Share of the patients, and of the groups of near-identical images."""
    min_patients: Count
    """Minimum number of patients with volumes."""
    min_pictures: Count
    """Minimum number of groups of images."""


class Preprocessing(Section):
    """Volume or image to normalised slices. Stored in every checkpoint, so that inference repeats it."""

    image_size: Annotated[int, Field(ge=32, le=512)]
    """Side of the square slices, pixels; a multiple of the stride of the architecture."""
    clip_percentiles: tuple[float, float]
    """Intensities inside the brain are clipped to these percentiles before the z-score."""
    crop_margin: Fraction
    """Margin around the brain's bounding box, as a share of its longer side."""
    min_brain_fraction: Fraction
    """Slices with less brain than this share of the largest slice are dropped."""
    healthy_ratio: NonNegative
    """Most tumour-free slices per tumour slice of a case in one pass over the training data."""
    max_train_slices: Count
    """Most slices of a case in one pass over the training data, evenly spaced; the next pass takes others."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"clip_percentiles {low}, {high} must satisfy 0 <= low < high <= 100")
        return self


class SplitFractions(Section):
    """Shares of the patients in the subsets, and the seed that assigns them."""

    seed: Seed
    train: Positive
    val: Positive
    test: Positive
    folds: CountOrZero
    """Number of folds of a cross-validation (`--folds`); 0: a single split."""
    fold: CountOrZero
    """Fold that is the test subset, from 1; set by the pipeline."""

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
    """Shares of the patients in the subsets, which sum to 1; or, with `file` or `folders`, your own split.

    `seed` assigns the patients. It is not the seed of training, so a sweep over that one keeps the split.

    With `folds` of 2 or more every patient is tested once: fold `fold` is the test subset, and the others are
    divided between train and val in the ratio of their shares.
    """

    file: str | None
    """JSON or CSV that names the subset (train, val, test) of patients, cases, files or folders."""
    folders: bool
    """Take the subsets from folders named train, val and test, or Training and so on."""
    unlisted: Literal["error", "exclude"]
    """Cases in no subset of a given split that lists train: `error` stops the run, `exclude` leaves them out.
    Where train is not listed, they become train and val."""
    overlap: Literal["refuse", "exclude"]
    """Patients, repeat visits, copies or near-identical images in several given subsets: `refuse` stops the
    run, `exclude` removes those of the test subset from train and val."""

    @property
    def is_given(self) -> bool:
        """Whether the user gives the subsets."""
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
