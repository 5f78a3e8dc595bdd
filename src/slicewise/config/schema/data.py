"""The data sets of a run, the amount of data, preprocessing and the split."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, NonNegative, Positive, Section, Seed
from slicewise.config.schema.sources import AnySource, ChannelName, ClassFoldersSettings, SourceKey

_VOLUMES: Final = "volumes"
"""The source of configs/data that takes `data.path` where there are others"""


class Data(Section):
    """The data sets of a run. `data.sources.KEY=null` leaves one out; a new key adds one."""

    name: str
    path: str | None
    """Short for the `path` of the only source, or of the volumes; pictures that have no `path` of their own
    are then left out."""
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
            return {"path": None, **value}
        named = {
            key: {"name": key, **source} if isinstance(source, Mapping) else source
            for key, source in sources.items()
            if source is not None
        }
        if (path := value.get("path")) is not None:
            named = _with_path(named, path)
        return {**value, "sources": named, "path": None}

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


def _with_path(sources: Mapping[str, Any], path: Any) -> dict[str, Any]:
    """Return the sources, of which the only one has its folder, or the volumes have; see `Data.path`."""
    key = next(iter(sources)) if len(sources) == 1 else _VOLUMES
    source: Any = sources.get(key)
    if not hasattr(source, "get"):
        keys = " or ".join(f"data.sources.{name}.path" for name in sources)
        raise ValueError(
            f"data.path is short for the path of the only source, and there are {len(sources)}; set {keys}, "
            "and a source that you do not want to null"
        )
    if source.get("path") is not None:
        raise ValueError(f"data.path and data.sources.{key}.path set the same; leave one of them out")
    others = {
        name: each
        for name, each in sources.items()
        if name != key and (not isinstance(each, Mapping) or each.get("path") is not None)
    }
    return {key: {**source, "path": path}, **others}


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
    fit: Literal["resize", "pad", "tile"]
    """`resize`: the square is resized to `image_size`. `pad`: pixels stay as they are, in the middle of
    `image_size`; only a larger square is resized. `tile`: a picture is cut into tiles of `image_size` that do
    not overlap, and its prediction is put together again."""
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
        if self.fit == "tile" and self.crop != "none":
            raise ValueError("fit=tile cuts whole pictures; set crop=none, or fit to resize or pad")
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
    folders: bool | None
    """Take the subsets from folders named train, val and test, or Training and so on. Null: those of pictures
    with masks, if their set has folders for train and test."""
    unlisted: Literal["error", "exclude"]
    """Cases in no subset of a given split that lists train: `error` stops the run, `exclude` leaves them out.
    Where train is not listed, they become train and val."""
    overlap: Literal["refuse", "exclude"]
    """Patients, repeat visits, copies or near-identical images in several given subsets: `refuse` stops the
    run, `exclude` removes those of the test subset from train and val. In an external test, the patients that
    the model was trained on: `exclude` leaves them out."""
    external: bool
    """Whether all patients are the test subset; set by `slicewise test`."""

    @property
    def is_given(self) -> bool:
        """Whether the user gives the subsets."""
        return self.file is not None or bool(self.folders)

    @model_validator(mode="after")
    def _check_given(self) -> Self:
        if self.file is not None and self.folders:
            raise ValueError("file and folders both give the subsets; leave one of them out")
        if self.is_given and self.folds:
            raise ValueError(
                "folds tests every patient once, and file or folders give one split; leave one of them out"
            )
        return self
