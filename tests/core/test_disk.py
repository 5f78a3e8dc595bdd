import errno
import os
import pickle
from pathlib import Path

import pytest

from slicewise.core.disk import describe_free_space, explain_disk_error, set_filename
from slicewise.core.files import atomic_write


def _fail_as_torch_does() -> None:
    error = RuntimeError("[enforce fail] unexpected pos 704")
    error.__context__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise error


def test_a_library_that_hides_the_cause_is_seen_through(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    with pytest.raises(RuntimeError) as caught, atomic_write(path):
        _fail_as_torch_does()
    told = str(explain_disk_error(caught.value, tmp_path, 5 << 20))
    assert str(path) in told
    assert "the disk is full" in told
    assert "about 5 MiB were needed" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EXDEV, "another disk"),
    ],
)
def test_each_kind_has_its_word(number: int, word: str, tmp_path: Path) -> None:
    told = str(explain_disk_error(OSError(number, os.strerror(number), "a.txt", None, "b.txt"), tmp_path))
    assert word in told
    assert "a.txt" in told
    assert "run the same command again" in told


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    assert explain_disk_error(FileNotFoundError(errno.ENOENT, "x", "y"), tmp_path) is None
    assert explain_disk_error(ValueError("no space left"), tmp_path) is None


def test_a_name_survives_the_way_back_from_a_worker(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    set_filename(error, tmp_path / "patient")
    assert str(tmp_path / "patient") in str(explain_disk_error(pickle.loads(pickle.dumps(error)), Path("/")))


def test_space_is_told_for_what_does_not_exist_yet(tmp_path: Path) -> None:
    assert "MiB free of" in describe_free_space(tmp_path / "not" / "yet")
