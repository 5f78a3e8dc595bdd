import subprocess
import sys

from slicewise.core.machine import MemoryMonitor

PEAK = """
import time
from slicewise.core.machine import MemoryMonitor

with MemoryMonitor() as watch:
    block = bytearray(b"x" * (200 << 20))
    time.sleep(0.5)
    del block
print(watch.peak_mib, watch.growth_bytes >> 20, watch.peak_bytes >> 20)
"""


def test_the_peak_holds_memory_that_is_gone_again() -> None:
    """In a process of its own: what other tests give back meanwhile would count against the growth."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    peak_mib, growth_mib, peak = map(int, done.stdout.split())
    assert peak_mib > 200
    assert 150 < growth_mib < peak


def test_children_are_counted() -> None:
    hold = "import time; block = bytearray(b'x' * (150 << 20)); time.sleep(1)"
    with MemoryMonitor() as watch:
        subprocess.run([sys.executable, "-c", hold], check=True)
    assert watch.peak_mib > 150
