import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slicewise.core.errors import WorkspaceError
from slicewise.pipeline.lock import exclusive

HOLD = """
import sys, time
from pathlib import Path
from slicewise.pipeline.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_controller_is_refused_by_the_name_of_the_first_and_a_dead_one_is_forgotten(
    tmp_path: Path,
) -> None:
    path = tmp_path / ".slicewise" / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(WorkspaceError, match=f"in use by process {holder.pid} on .* since 20"),
            exclusive(path),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with exclusive(path):
        assert str(os.getpid()) in path.read_text()


def test_the_lock_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "lock"):
            pass
