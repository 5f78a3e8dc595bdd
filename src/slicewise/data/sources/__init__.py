"""Data sources: what is read of a folder, by the kind of the data set.

base           what every kind does, and the files below a folder; docs/howto/extend.md adds another kind
brats          BraTS and other volumes named likewise
lgg            kaggle_3m, a slice per TIFF
class_folders  pictures in folders named yes and no
image_masks    any pictures with masks; generated shapes
phantom        generated patients and pictures
"""

from typing import TYPE_CHECKING, Any

from slicewise.config.schema import SourceSettings
from slicewise.config.schema.sources import SOURCES

if TYPE_CHECKING:
    from slicewise.data.sources.base import Source


def open_source(settings: SourceSettings) -> "Source[Any]":
    """Return the source with these settings."""
    source: Source[Any] = SOURCES[settings.kind](settings)
    return source
