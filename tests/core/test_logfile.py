import logging
import resource
from pathlib import Path

import pytest

from slicewise.core.logfile import LogFile


def test_a_log_on_a_full_disk_is_told_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, handler = logging.getLogger("tests.logfile"), LogFile(tmp_path / "run.log")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log.addHandler(handler)
    try:
        log.error("one ü")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
        log.error("two")
        log.error("three")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.removeHandler(handler)
        handler.close()
    assert (tmp_path / "run.log").read_text(encoding="utf-8").startswith("one")
    assert capsys.readouterr().out.count("ends here: File too large") == 1
