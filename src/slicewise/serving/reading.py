"""From received files to a Volume, by the same readers as for training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from slicewise.core.keys import CaseKey
from slicewise.core.labels import MODALITIES, Modality
from slicewise.data.picture import read_grey
from slicewise.imaging.volume import Volume, picture_volume, read_volume
from slicewise.serving.uploads import UNNAMED, RequestError, Stored

_KEY: Final = CaseKey("upload", "upload", "upload")


def read_files(files: Mapping[str, Stored], slot: Modality) -> Volume:
    """Read the files of one request.

    Args:
        files: by modality; or one file under UNNAMED.
        slot: the modality slot that a picture fills when its modality was not said.

    Raises:
        RequestError: 400 when pictures and volumes are mixed, or a volume's modality was not said.
        DataError: a file is damaged, or the volumes do not match.
    """
    kinds = {file.kind for file in files.values()}
    if kinds == {"picture"} and len(files) == 1:
        ((name, file),) = files.items()
        return read_picture(file.path, next((known for known in MODALITIES if known == name), slot))
    if kinds != {"volume"}:
        raise RequestError(400, "send one picture, or the NIfTI volumes of one examination, not both")
    if UNNAMED in files:
        raise RequestError(
            400,
            f"{files[UNNAMED].name} is a volume: say what it shows in the form field `modality`, "
            f"one of {', '.join(MODALITIES)}",
        )
    return read_volume({known: files[known].path for known in MODALITIES if known in files})


def read_picture(path: Path, slot: Modality) -> Volume:
    """Read a picture as a volume of one slice with one filled slot."""
    return picture_volume(_KEY, read_grey(path), slot)
