"""The exceptions that SliceWise raises on purpose. The command line prints the message without a traceback.

A message says what is wrong, where (file or key), what was expected and what to do.
"""

from pathlib import Path


class SliceWiseError(Exception):
    """Base of all errors that a user can fix. `exit_code` is the exit code of the command."""

    exit_code = 1


class ConfigError(SliceWiseError):
    """Keys are unknown or missing, or values are invalid; the message lists all of them."""

    exit_code = 2


class UsageError(SliceWiseError):
    """Options contradict each other or the state of the workspace."""

    exit_code = 2


class DataError(SliceWiseError):
    """A data folder or file cannot be used."""


class VolumeError(DataError):
    """A NIfTI volume or its mask is unreadable, of another shape, or not finite."""


class VolumeFileError(VolumeError):
    """An unusable file of a volume; `message` is the fault and what to do about it, without the path."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(path, message)
        self.path, self.message = path, message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class PictureError(DataError):
    """A 2-D image is unreadable or of an unsupported kind."""


class SplitError(DataError):
    """A split would put one patient into two subsets, or leave a subset empty."""


class DownloadError(SliceWiseError):
    """A data set could not be downloaded."""


class CheckpointError(SliceWiseError):
    """A file is not a SliceWise checkpoint, or belongs to another model."""


class WorkspaceError(SliceWiseError):
    """The workspace is full, locked by another run, or holds a damaged output."""


class ResourceError(SliceWiseError):
    """The machine or its container has too little memory for a single unit of work."""


class TrainingError(SliceWiseError):
    """Training cannot continue: the loss is NaN, or there is no batch."""


class PublishError(SliceWiseError):
    """A model could not be published: the server refuses, or cannot be reached."""


class ServingError(SliceWiseError):
    """A service did not start, or its health check fails."""


class RemoteError(SliceWiseError):
    """A remote workspace cannot be reached, or holds something that is not what its receipt says."""
