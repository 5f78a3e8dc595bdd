import errno
import os
import pickle
from pathlib import Path

import pytest

from slicewise.core.disk import describe_free_space, explain_disk_error, require_space, set_filename
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import atomic_write


def _fail_as_torch_does() -> None:
    error = RuntimeError("[enforce fail] unexpected pos 704")
    error.__context__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise error


def test_a_library_that_hides_the_cause_is_seen_through(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    with pytest.raises(RuntimeError) as caught, atomic_write(path):
        _fail_as_torch_does()
    message = str(explain_disk_error(caught.value, tmp_path, 5 << 20))
    assert str(path) in message
    assert "the disk is full" in message
    assert "about 5 MiB were needed" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EXDEV, "another disk"),
        (errno.ENAMETOOLONG, "shorten it"),
    ],
)
def test_each_kind_has_its_word(number: int, word: str, tmp_path: Path) -> None:
    message = str(explain_disk_error(OSError(number, os.strerror(number), "a.txt", None, "b.txt"), tmp_path))
    assert word in message
    assert "a.txt" in message
    assert "run the same command again" in message


def test_a_link_to_nothing_is_explained(tmp_path: Path) -> None:
    """Such as one to a disk that is not mounted; `mkdir` says only that the name exists."""
    (tmp_path / "workspace").symlink_to(tmp_path / "disk" / "workspace")
    with pytest.raises(FileExistsError) as caught:
        (tmp_path / "workspace").mkdir(exist_ok=True)
    message = str(explain_disk_error(caught.value, tmp_path))
    assert f"{tmp_path / 'workspace'} cannot be written: it is a link to what does not exist" in message


def test_the_option_is_named_for_its_own_folder_alone(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        error = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        return str(explain_disk_error(error, tmp_path / "workspace"))

    assert "or choose another folder with --workspace" in message(tmp_path / "workspace" / "logs" / "a.log")
    assert "or choose another folder with --workspace" in message(tmp_path)
    assert "--workspace" not in message(tmp_path / "masks")


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    assert explain_disk_error(FileNotFoundError(errno.ENOENT, "x", "y"), tmp_path) is None
    assert explain_disk_error(ValueError("no space left"), tmp_path) is None
    assert explain_disk_error(FileExistsError(errno.EEXIST, "x", str(tmp_path)), tmp_path) is None


def test_a_name_survives_the_way_back_from_a_worker(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    set_filename(error, tmp_path / "patient")
    assert str(tmp_path / "patient") in str(explain_disk_error(pickle.loads(pickle.dumps(error)), Path("/")))


def test_space_is_given_for_what_does_not_exist_yet(tmp_path: Path) -> None:
    assert "MiB free of" in describe_free_space(tmp_path / "not" / "yet")


def test_space_is_checked_on_the_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1, "a test")
    with pytest.raises(WorkspaceError, match=r"a test needs about .* MiB .* free"):
        require_space(tmp_path / "not" / "yet", 1 << 60, "a test")
