import io
import tempfile
from pathlib import Path

import pytest
from starlette.datastructures import UploadFile

from slicewise.core.errors import VolumeError
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.uploads import display_name, store_uploads


def upload(content: bytes, name: str = "a.bin") -> dict[str, UploadFile]:
    return {"flair": UploadFile(io.BytesIO(content), filename=name)}


@pytest.mark.parametrize(
    ("head", "suffix", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", ".picture", "picture"),
        (b"\xff\xd8\xff\xe0", ".picture", "picture"),
        (b"II*\0", ".picture", "picture"),
        (b"MM\0*", ".picture", "picture"),
        (b"RIFF\0\0\0\0WEBP", ".picture", "picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", ".picture", "picture"),
        (b"\x1f\x8b\x08", ".nii.gz", "volume"),
        (bytes(344) + b"n+1\0", ".nii", "volume"),
        (b"\x1c\x02\0\0n+2\0\r\n\x1a\n", ".nii", "volume"),
    ],
)
def test_the_content_decides_what_a_file_is(head: bytes, suffix: str, kind: str) -> None:
    with store_uploads(upload(head + b"rest", "misleading.txt")) as files:
        assert files["flair"].kind == kind
        assert files["flair"].path.name.endswith(suffix)
        assert files["flair"].path.read_bytes() == head + b"rest"
        assert files["flair"].path.parent.stat().st_mode & 0o077 == 0
    assert not files["flair"].path.parent.exists()


def test_a_client_s_file_name_never_becomes_a_path(tmp_path: Path) -> None:
    with store_uploads(upload(b"\x1f\x8b", "../../../escape.nii.gz")) as files:
        assert files["flair"].path.parent.parent == Path(tempfile.gettempdir())
        assert "escape" not in str(files["flair"].path)


def test_errors_speak_of_the_client_s_file() -> None:
    with pytest.raises(RequestError) as caught, store_uploads(upload(b"\x1f\x8b", "mine.nii.gz")) as files:
        raise VolumeError(f"{files['flair'].path} is truncated; fetch it again")
    assert str(caught.value) == "mine.nii.gz is truncated; fetch it again"
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.png", "a.png"),
        ("../../x/b.nii", "b.nii"),
        ("C:\\scans\\c.nii", "c.nii"),
        ("new\nline\x00.png", "newline.png"),
        ("", "the upload"),
        (None, "the upload"),
        ("x" * 500, "x" * 80),
    ],
)
def test_shown_names_are_short_and_harmless(name: str | None, shown: str) -> None:
    assert display_name(name) == shown
