import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.core.errors import DataError
from slicewise.data.sources.base import natural_key, partition_files


def jpegs(root: Path) -> list[Path]:
    return partition_files(root, lambda path: path.name.lower().endswith(".jpg"))[0]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_numbers_sort_as_numbers() -> None:
    assert sorted(["x_10.tif", "x_9.tif", "X_1.tif"], key=natural_key) == ["X_1.tif", "x_9.tif", "x_10.tif"]


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_names_can_be_compared(one: str, other: str) -> None:
    first, second = natural_key(one), natural_key(other)
    assert (first < second) + (first == second) + (first > second) == 1


def test_letter_case_and_nesting_do_not_matter_and_hidden_files_do(tmp_path: Path) -> None:
    wanted = [touch(tmp_path / "a/b/1.JPG"), touch(tmp_path / "a/2.jpg")]
    for name in ("a/._2.jpg", ".cache/3.jpg", "__MACOSX/a/4.jpg", "a/notes.txt"):
        touch(tmp_path / name)
    assert jpegs(tmp_path) == [wanted[1], wanted[0]]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/1.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    assert jpegs(root) == [root / "linked/1.jpg"]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_two_ways_to_a_folder_the_first_by_name_is_taken(tmp_path: Path, names: tuple[str, str]) -> None:
    """Not the one that the file system lists first: what a data set is must not depend on that."""
    folder, link = (tmp_path / name for name in names)
    touch(folder / "1.jpg")
    link.symlink_to(folder)
    assert jpegs(tmp_path) == [tmp_path / "a/1.jpg"]


@pytest.mark.parametrize("name", [b"M\xfcller/1.jpg", b"patient/M\xfcller.JPG"])
def test_a_name_that_is_not_utf8_is_refused_before_it_reaches_a_record(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path / os.fsdecode(name.replace(b"jpg", b"txt").replace(b"JPG", b"txt")))
    touch(tmp_path / "Müller" / "1.jpg")
    assert len(jpegs(tmp_path)) == 1
    touch(tmp_path / os.fsdecode(name))
    with pytest.raises(DataError, match=r"M\\udcfcller.*' is not UTF-8.*rename it"):
        jpegs(tmp_path)


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user without rights where the tests run as root."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_folder_that_cannot_be_read_is_named_and_its_patients_do_not_vanish() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        touch(root / "open/1.jpg")
        closed = touch(root / "closed/2.jpg").parent
        touch(root / "lost+found/3.jpg").parent.chmod(0)  # as at the top of a disk of data
        closed.chmod(0)
        with (
            nobody(),
            pytest.raises(DataError, match=r"closed cannot be read \(Permission denied\); let"),
        ):
            jpegs(root)
        closed.chmod(0o755)
        with nobody():
            assert jpegs(root) == [root / "closed/2.jpg", root / "open/1.jpg"]
        (root / "lost+found").chmod(0o755)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent is not a folder; set the `path` of the source"):
        jpegs(tmp_path / "absent")
