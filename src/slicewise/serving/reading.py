"""From received files to a Volume, by the same readers as for training."""

from collections.abc import Mapping

from slicewise.core.labels import MODALITIES, Modality
from slicewise.imaging.picture import read_picture
from slicewise.imaging.volume import Volume, read_volume
from slicewise.serving.uploads import UNNAMED, RequestError, Stored


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
        named = next((modality for modality in MODALITIES if modality == name), slot)
        return read_picture(file.path, named)
    if kinds != {"volume"}:
        raise RequestError(
            400,
            "send one picture, or the NIfTI volumes of one examination, but not several "
            "pictures and not both",
        )
    if UNNAMED in files:
        raise RequestError(
            400,
            f"{files[UNNAMED].name} is a volume: say what it shows in the form field "
            f"`modality`, one of {', '.join(MODALITIES)}",
        )
    return read_volume({slot: files[slot].path for slot in MODALITIES if slot in files})
