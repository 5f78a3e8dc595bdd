import subprocess
import sys
import time

from slicewise.pipeline.memory import MemoryWatch


def test_the_peak_holds_memory_that_is_gone_again() -> None:
    with MemoryWatch() as watch:
        block = bytearray(b"x" * (200 << 20))
        time.sleep(0.5)
        del block
    assert watch.peak_mib > 200
    assert 150 << 20 < watch.growth_bytes < watch.peak_bytes


def test_children_are_counted() -> None:
    hold = "import time; block = bytearray(b'x' * (150 << 20)); time.sleep(1)"
    with MemoryWatch() as watch:
        subprocess.run([sys.executable, "-c", hold], check=True)
    assert watch.peak_mib > 150
