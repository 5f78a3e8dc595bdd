import ctypes
import subprocess
import sys

import pytest

from slicewise.core.machine import keep_freed_memory


def test_glibc_accepts_the_thresholds() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt")
    assert keep_freed_memory()


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()


def test_what_was_kept_is_given_back_between_two_steps() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    script = """
import psutil
from slicewise.core.machine import trim_memory, keep_freed_memory
keep_freed_memory()
last, held = None, [b"x" * (1 << 20) for _ in range(300)]
last, held = b"x" * 4096, None
kept = psutil.Process().memory_info().rss
trim_memory()
print(kept - psutil.Process().memory_info().rss)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 200 << 20
