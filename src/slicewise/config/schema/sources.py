"""The settings of one data source, by its kind. What only another package knows is found by entry point.

The keys of a kind have their defaults here, since a source may be added on the command line.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from slicewise.config.schema.base import ChannelName, CountOrZero, Section
from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry
from slicewise.domain.labels import LABEL_FORMATS, TUMOUR_LABELS

SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
SourceKey = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

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
    built_in = KINDS.get(kind)
    offered: type[SourceSettings] = built_in or SOURCES[kind].Settings
    return offered


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
