import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slicewise.core.hashing import HashCache, digest, hash_file


def test_key_order_does_not_matter_but_values_do() -> None:
    assert digest({"a": 1, "b": [1.5, None, True]}) == digest({"b": [1.5, None, True], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) != digest({"a": "1"})


@pytest.mark.parametrize("value", [{1, 2}, Path("x"), float("nan"), object()])
def test_what_could_hash_differently_tomorrow_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest({"key": value})


def test_digest_is_the_same_in_a_process_with_another_hash_seed() -> None:
    code = "from slicewise.core.hashing import digest; print(digest({'b': [1, 'x'], 'a': {'c': 0.1}}))"
    env = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest({"a": {"c": 0.1}, "b": [1, "x"]})


def test_hash_file_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert hash_file(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_cache_reads_a_file_again_only_when_its_stat_differs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    cache = HashCache()
    first = cache.hash(path)
    stat = path.stat()
    remembered = HashCache(cache.table)
    assert remembered.hash(path) == first
    assert not remembered.changed
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert remembered.hash(path) != first
    assert remembered.changed
