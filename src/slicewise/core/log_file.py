"""The log file of a run."""

import logging
from pathlib import Path

from slicewise.core.console import say
from slicewise.core.disk import describe_free_space


class LogFile(logging.Handler):
    """Appends records to a file in UTF-8, unbuffered; prints one warning where that fails (disk full)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._warned = False
        self._stream = path.open("ab", buffering=0)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            self._stream.write((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._warned:
                self._warned = True
                space = describe_free_space(self.path)
                say(f"the log {self.path} ends here: {error.strerror} ({space})", "warn")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()
