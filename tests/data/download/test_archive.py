import contextlib
import io
import stat
import zipfile
from pathlib import Path

import pytest

from slicewise.core.errors import DownloadError, WorkspaceError
from slicewise.data.download.archive import unpack_zip


def write_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_files_land_below_the_folder(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("a/", b""), ("a/b/c 1.txt", b"one"), ("d.txt", b"two"))
    assert unpack_zip(archive, tmp_path / "out") == 2
    assert (tmp_path / "out/a/b/c 1.txt").read_bytes() == b"one"
    assert (tmp_path / "out/d.txt").read_bytes() == b"two"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "C:/evil", "C:evil", "..\\evil", "a\\b", "//host/evil", "."]
)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("good.txt", b"good"), (name, b"evil"))
    with pytest.raises(DownloadError, match=r"a\.zip holds"):
        unpack_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (kind | 0o777) << 16
    archive = write_zip(tmp_path / "a.zip", (entry, b"/etc/passwd"))
    with pytest.raises(DownloadError, match="link or a device"):
        unpack_zip(archive, tmp_path / "out")


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("a.txt", b"text"))
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="encrypted"):
        unpack_zip(archive, tmp_path / "out")


def test_more_than_the_disk_holds_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 80 << 20

    archive = write_zip(tmp_path / "a.zip", ("zeros", bytes(20 << 20)))
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(WorkspaceError, match=r"unpacking a\.zip needs about 84 MiB"):
        unpack_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_entry_never_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("bomb", bytes(1 << 20)))
    data = archive.read_bytes().replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="damaged"):
        unpack_zip(archive, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 10


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("a.txt", b"1"), ("a.txt", b"2"))
    with pytest.raises(DownloadError, match="twice"):
        unpack_zip(archive, tmp_path / "out")


def test_every_truncation_is_named_damage(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(range(256)) * 4)
    whole = buffer.getvalue()
    path = tmp_path / "a.zip"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DownloadError, match="damaged"):
            unpack_zip(path, tmp_path / f"out{length}")
    for index in range(0, len(whole), 2):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
        with contextlib.suppress(DownloadError):
            unpack_zip(path, tmp_path / f"flip{index}")
