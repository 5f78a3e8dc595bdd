"""Data sets and their sources, the amount of data, preprocessing and the split.

What only another package knows of a source is found by entry point. The keys of a kind have their defaults
here, since a source may be added on the command line.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, NonNegative, Positive, Section, Seed
from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry
from slicewise.domain.labels import LABEL_FORMATS, TUMOUR_LABELS

SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
SourceKey = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

_AUTO: Final = "auto"


def _check_channel(name: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return name
    meant = re.sub(r"[^a-z0-9_]+", "_", name.lower()).lstrip("0123456789_")
    raise ValueError(
        "small letters, digits and _ name a channel" + (f"; did you mean {meant}?" if meant else "")
    )


ChannelName = Annotated[str, AfterValidator(_check_channel)]


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


class SourceSettings(Section):
    """One data set. Its kind adds the keys listed for it."""

    kind: str
    """What is read: `brats`, `lgg`, `class_folders`, `phantom`, `phantom_pictures`, or a kind that another
    package offers."""
    name: SourceName
    """Name in tables and reports; by default the key."""
    path: str | None = None
    """Folder of the data set. None: downloaded (or generated) to `data/raw/<name>`."""
    kaggle: str | None = None
    """`owner/dataset` on Kaggle, used when `path` is None."""
    role: Literal["full", "train_only"] = "full"
    """`full`: divided between train, val and test. `train_only`: all of it is in train, except
    what the other sources have too."""

    unit: ClassVar[Literal["volume", "picture"]] = "volume"
    """A case: a volume of many slices, or one picture."""
    has_masks: ClassVar[bool] = False
    is_generated: ClassVar[bool] = False
    on_demand: ClassVar[bool] = False
    """Only the patients that take part are generated."""

    @model_validator(mode="after")
    def _check_generated(self) -> Self:
        if self.is_generated and self.path is not None:
            raise ValueError(
                f"path names a folder, but kind is {self.kind}: its patients are generated; "
                "choose the data set, e.g. data=brats or data=lgg, or leave path out"
            )
        return self


class BratsSettings(SourceSettings):
    """NIfTI volumes with masks (`brats`)."""

    mask: str | None = None
    """Pattern of the masks' file names, such as `*_tumor_seg*`. None: the usual names."""
    labels: Annotated[str | dict[str, int], BeforeValidator(_check_labels)] = _AUTO
    """Meaning of the mask values: `brats2015`, `brats2021`, `brats2023`, `brats2024`, `brats_ped`, `msd`, or
    a map such as `{1:3,2:1,3:1,4:2}` to 1 necrosis and non-enhancing core, 2 edema, 3 enhancing tumour and 0
    none. `auto`: BraTS 2017 to 2023."""
    has_masks = True


class LggSettings(SourceSettings):
    """Slices of kaggle_3m with masks (`lgg`)."""

    has_masks = True


class PhantomSettings(SourceSettings):
    """Generated volumes with masks (`phantom`)."""

    phantom_patients: CountOrZero = 0
    """Number of virtual patients; those that a mode uses are generated."""
    has_masks = True
    is_generated = True
    on_demand = True


class ClassFoldersSettings(SourceSettings):
    """Single pictures in folders named by their class (`class_folders`)."""

    slot: ChannelName = "flair"
    """Which of `preprocessing.channels` pictures of unknown modality fill."""
    duplicates: Literal["group", "ignore"] = "group"
    """`group` uses identical pictures once and keeps near-identical ones in one subset; `ignore` treats every
    file as a patient, which shows how far duplicates inflate the scores."""
    unit = "picture"


class PhantomPicturesSettings(ClassFoldersSettings):
    """Generated pictures (`phantom_pictures`)."""

    phantom_pictures: CountOrZero = 0
    """Number of virtual pictures."""
    is_generated = True


SOURCES: Final[Registry[Any]] = Registry(
    "sources",
    {
        "brats": "slicewise.data.sources.brats:Brats",
        "lgg": "slicewise.data.sources.lgg:Lgg",
        "class_folders": "slicewise.data.sources.class_folders:ClassFolders",
        "phantom": "slicewise.data.sources.phantom:Phantom",
        "phantom_pictures": "slicewise.data.sources.phantom:PhantomPictures",
    },
)
"""Subclasses of `data.sources.base.Source`"""
KINDS: Final[Mapping[str, type[SourceSettings]]] = {
    "brats": BratsSettings,
    "lgg": LggSettings,
    "class_folders": ClassFoldersSettings,
    "phantom": PhantomSettings,
    "phantom_pictures": PhantomPicturesSettings,
}
"""The settings of the built-in kinds: a configuration is checked without the code that reads files."""


def settings_type(kind: str) -> type[SourceSettings]:
    """Return the settings of a kind of source.

    Raises:
        ConfigError: there is no such kind.
    """
    found: type[SourceSettings] = KINDS.get(kind) or SOURCES[kind].Settings
    return found


def _parse(value: Any) -> Any:
    """Return the settings of a source, by its kind."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    old = {"none": "to leave a source out, set it to null", "pictures": "it is now class_folders"}
    if "train_only" in value:
        raise ValueError(
            "train_only is now a source of its own: give another key of data.sources the path of that folder "
            "and role=train_only"
        )
    if kind in old:
        raise ValueError(f"kind {kind!r} is unknown; {old[kind]}")
    try:
        return settings_type(str(kind)).model_validate(value)
    except ConfigError as error:
        raise ValueError(f"kind: {error}") from error


AnySource = Annotated[SerializeAsAny[SourceSettings], BeforeValidator(_parse)]


class Data(Section):
    """The data sets of a run. `data.sources.KEY=null` leaves one out; a new key adds one."""

    name: str
    synthetic: bool
    """True where patients are generated; every result then says so."""
    sources: dict[SourceKey, AnySource]

    @property
    def slot(self) -> str:
        """Input channel of pictures of unknown modality: that of the first pictures."""
        slots = (s.slot for s in self.sources.values() if isinstance(s, ClassFoldersSettings))
        return next(slots, "flair")

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, value: Any) -> Any:
        """Leave out sources that are null, and name the others by their keys."""
        if not isinstance(value, Mapping):
            return value
        if old := [key for key in ("volumes", "pictures") if key in value]:
            raise ValueError(f"data.{old[0]} is now data.sources.{old[0]}; change the command or the file")
        sources = value.get("sources")
        if not isinstance(sources, Mapping):
            return value
        named = {
            key: {"name": key, **source} if isinstance(source, Mapping) else source
            for key, source in sources.items()
            if source is not None
        }
        return {**value, "sources": named}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ValueError("data.sources is empty; add a source, or choose data=phantom, brats or lgg")
        names = Counter(source.name for source in self.sources.values())
        if repeated := [name for name, count in names.items() if count > 1]:
            keys = [key for key, source in self.sources.items() if source.name == repeated[0]]
            raise ValueError(f"the names of {' and '.join(keys)} are both {repeated[0]!r}; change one")
        generated = [key for key, source in self.sources.items() if source.is_generated]
        if generated and not self.synthetic:
            raise ValueError(
                f"synthetic is false, but {' and '.join(generated)} are generated; "
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
    num_patients: Count | None
    """Number of patients with volumes (`--num-patients`), in place of the share; null: as the share says."""
    num_pictures: Count | None
    """Number of groups of images (`--num-images`), likewise."""


Intensity = Literal["zscore_foreground", "percentile", "unit", "imagenet"]


class Preprocessing(Section):
    """Volume or image to normalised slices. Stored in every checkpoint, so that inference repeats it."""

    channels: Annotated[tuple[ChannelName, ...], Field(min_length=1, max_length=16)]
    """What the channels of the model's images are, in order: `[t1,t1ce,t2,flair]`, `[red,green,blue]`,
    `[grey]`. Those that a case lacks stay empty; other images of a case are not used."""
    intensity: Intensity
    """`zscore_foreground`: mean 0 and standard deviation 1 inside the brain. `percentile`: the range between
    `clip_percentiles` becomes 0 to 1. `unit`: the range of the file's type becomes 0 to 1. `imagenet`: as
    `unit`, then ImageNet's mean and standard deviation."""
    crop: Literal["brain", "none"]
    """`brain`: a square around the brain; images are 0 outside the brain. `none`: around the image."""
    fit: Literal["resize", "pad"]
    """`resize`: the square is resized to `image_size`. `pad`: pixels stay as they are, in the middle of
    `image_size`; only a larger square is resized."""
    image_size: Annotated[int, Field(ge=32, le=512)]
    """Side of the square slices, pixels; a multiple of the stride of the architecture."""
    clip_percentiles: tuple[float, float]
    """Intensities inside the brain are clipped to these for `zscore_foreground` and `percentile`."""
    crop_margin: Fraction
    """Margin around the brain's bounding box, as a share of its longer side."""
    min_brain_fraction: Fraction
    """Slices with less brain than this share of the largest slice are dropped; none with `crop: none`."""
    healthy_ratio: NonNegative
    """Most tumour-free slices per tumour slice of a case in one pass over the training data."""
    max_train_slices: Count
    """Most slices of a case in one pass over the training data, evenly spaced; the next pass takes others."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({*self.channels}) < len(self.channels):
            raise ValueError("channels lists a name twice; name each of them once")
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
