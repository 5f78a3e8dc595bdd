"""Data sources: what is read of a folder, by the kind of the data set.

base           what every kind does; docs/extending.md adds another one
brats          BraTS and other volumes named likewise; nifti_headers checks their files
lgg            kaggle_3m, a slice per TIFF; lgg_slices reads and checks them
class_folders  pictures in folders named yes and no
phantom        generated patients and pictures
folder_labels  the label in the name of a folder
tree           the files below a folder, in natural order
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
