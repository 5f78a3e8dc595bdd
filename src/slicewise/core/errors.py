"""The exceptions SliceWise raises on purpose.

SliceWiseError
├── ConfigError        a key or value in configs/ or on the command line
├── UsageError         flags that contradict each other or the state of the workspace
├── DataError          a folder or file that cannot be used
│   ├── VolumeError    one NIfTI volume or its mask
│   ├── PictureError   one 2-D picture
│   └── SplitError     a split that would leak or be empty
├── DownloadError      network or credentials
├── CheckpointError    a file that is not the checkpoint that was asked for
├── WorkspaceError     disk space, locks, damaged outputs
├── ResourceError      less memory than the least unit of work needs
├── TrainingError      a run that cannot go on (loss is NaN, no batch)
└── ServingError       the demo did not start or does not answer

Every message names the file or key and the way out; the command line prints it without a traceback.
"""


class SliceWiseError(Exception):
    """Base of all errors a user can mend. `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(SliceWiseError):
    """One or more keys are unknown, missing or impossible; the message lists all of them."""

    exit_code = 2


class UsageError(SliceWiseError):
    """The command line asks for something that the workspace cannot give."""

    exit_code = 2


class DataError(SliceWiseError):
    """A data folder or file cannot be used."""


class VolumeError(DataError):
    """A volume or mask is unreadable, of another shape, or not finite."""


class PictureError(DataError):
    """A picture is unreadable or of an unsupported kind."""


class SplitError(DataError):
    """A split would put one patient on two sides, or leave a side empty."""


class DownloadError(SliceWiseError):
    """A data set could not be fetched."""


class CheckpointError(SliceWiseError):
    """A file is not a SliceWise checkpoint, or belongs to another model."""


class WorkspaceError(SliceWiseError):
    """The workspace is full, locked by another run, or holds a damaged output."""


class ResourceError(SliceWiseError):
    """The machine, or the container, has too little memory for even one unit of the work."""


class TrainingError(SliceWiseError):
    """Training cannot go on."""


class ServingError(SliceWiseError):
    """A service did not start, or does not answer its health check."""
