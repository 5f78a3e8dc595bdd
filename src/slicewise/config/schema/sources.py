"""Kinds of data sources. Their keys have defaults here: a source may be added on the command line.

What only another package knows of a source is found by entry point.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Section, Seed
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


def _check_values(value: Any) -> dict[str, int] | None:
    """Return a map of mask values to labels with text keys, as in JSON."""
    if value is None:
        return None
    if isinstance(value, Mapping) and value:
        pairs = {str(key): label for key, label in value.items()}
        if all(key.isdecimal() and type(label) is int and 0 <= label < 256 for key, label in pairs.items()):
            return pairs
    raise ValueError(
        "expected null, or a map of mask values to labels such as {85:1,170:2,255:3}; 0 is the background"
    )


class SourceSettings(Section):
    """One data set. Its kind adds the keys listed for it."""

    kind: str
    """What is read: `brats`, `lgg`, `class_folders`, `image_masks`, `phantom`, `phantom_pictures`, `shapes`,
    or a kind that another package offers."""
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
    in_colour: ClassVar[bool] = False
    """Whether its pictures fill the channels red, green and blue, or grey."""
    honours_folders: ClassVar[bool] = False
    """Whether folders named train, val and test are its split where `split.folders` is null."""

    @model_validator(mode="after")
    def _check_generated(self) -> Self:
        if self.is_generated and self.path is not None:
            raise ValueError(
                f"path names a folder, but kind is {self.kind}: its patients are generated; "
                "choose the data set, e.g. data=brats, data=lgg or data=image_masks, or leave path out"
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


class PictureSettings(SourceSettings):
    """Single pictures (`class_folders`, `image_masks`, `phantom_pictures`)."""

    duplicates: Literal["group", "ignore"] = "group"
    """`group` uses identical pictures once and keeps near-identical ones in one subset; `ignore` treats every
    file as a patient, which shows how far duplicates inflate the scores."""
    unit = "picture"


YES_NO: Final = ("no_tumour", "tumour")
"""The classes of folders where nothing else is said"""


class ClassFoldersSettings(PictureSettings):
    """Single pictures in folders named by their class (`class_folders`)."""

    slot: ChannelName = "flair"
    """Which of `preprocessing.channels` pictures of unknown modality fill."""
    classes: tuple[str, ...] | None = None
    """Names of the classes in the order of their numbers, after which the folders are named. None: those of
    `tasks.classification`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes or YES_NO


class PhantomPicturesSettings(ClassFoldersSettings):
    """Generated pictures (`phantom_pictures`)."""

    phantom_pictures: CountOrZero = 0
    """Number of virtual pictures."""
    is_generated = True


class ImageMasksSettings(PictureSettings):
    """Pictures of any kind with masks (`image_masks`): `images/x.jpg` and `masks/x.png`."""

    images: str | None = None
    """Name of the folders of pictures. None: the usual names, such as `images`, `imgs` or `train_images`."""
    masks: str | None = None
    """Name of the folders of masks. None: the usual names, such as `masks`, `labels` or `train_masks`; also
    masks beside their pictures, such as `x_mask.png`."""
    values: Annotated[dict[str, int] | None, BeforeValidator(_check_values)] = None
    """Label of each value of the masks, such as `{85:1,170:2,255:3}` and 0 for the background: label 1 is the
    first class of `tasks.segmentation.classes`. None: 0 and one other value such as 255, or labels."""
    has_masks = True
    in_colour = True
    honours_folders = True


class ShapesSettings(SourceSettings):
    """Generated pictures of shapes on texture, with masks (`shapes`)."""

    train: Count = 50
    """Number of pictures to train on."""
    val: Annotated[int, Field(ge=2)] = 10
    """Number of validation pictures."""
    test: Annotated[int, Field(ge=2)] = 10
    """Number of test pictures."""
    size: Annotated[int, Field(ge=64, le=1024)] = 256
    """Side of the pictures, pixels."""
    classes: Annotated[int, Field(ge=1, le=4)] = 1
    """1: every shape is of one class. More: the first kinds of circle, ellipse, rectangle and polygon, each a
    class."""
    seed: Seed = 0
    """The set is the same for a seed, whatever the seed of the run."""
    unit = "picture"
    has_masks = True
    is_generated = True
    in_colour = True
    honours_folders = True


SOURCES: Final[Registry[Any]] = Registry(
    "sources",
    {
        "brats": "slicewise.data.sources.brats:Brats",
        "lgg": "slicewise.data.sources.lgg:Lgg",
        "class_folders": "slicewise.data.sources.class_folders:ClassFolders",
        "image_masks": "slicewise.data.sources.image_masks:ImageMasks",
        "phantom": "slicewise.data.sources.phantom:Phantom",
        "phantom_pictures": "slicewise.data.sources.phantom:PhantomPictures",
        "shapes": "slicewise.data.sources.image_masks:Shapes",
    },
)
"""Subclasses of `data.sources.base.Source`"""
KINDS: Final[Mapping[str, type[SourceSettings]]] = {
    "brats": BratsSettings,
    "lgg": LggSettings,
    "class_folders": ClassFoldersSettings,
    "image_masks": ImageMasksSettings,
    "phantom": PhantomSettings,
    "phantom_pictures": PhantomPicturesSettings,
    "shapes": ShapesSettings,
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
