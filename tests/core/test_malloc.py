import ctypes
import subprocess
import sys

import pytest

from slicewise.core.machine import keep_freed_memory, share_heaps


def test_glibc_accepts_the_thresholds() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt")
    assert keep_freed_memory()


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
    assert not share_heaps()


def test_threads_share_the_heaps() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt")
    script = """
import ctypes, re, threading
from slicewise.core.machine import share_heaps
assert share_heaps(2)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
gate = threading.Barrier(9)
def work():
    libc.malloc(1000)
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[each.start() for each in threads]
gate.wait()
libc.malloc_stats()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr.count("Arena") == 2


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
