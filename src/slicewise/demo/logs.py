"""The services' log files."""

from pathlib import Path

TAIL_LINES = 15


def log_tail(path: Path, num_lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, indented for an error message."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-num_lines:]) or "    (the log is empty)"


def rotate_log(path: Path) -> None:
    """Keep one earlier log beside the new, empty one: a tail quotes this start, and logs stay bounded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_suffix(".previous.log"))
    path.touch()
