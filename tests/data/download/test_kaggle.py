"""The real client against a local server that answers as Kaggle and its file storage do."""

import base64
import hashlib
import importlib
import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slicewise.core.errors import DownloadError, WorkspaceError
from slicewise.data.download.kaggle import RECEIPT, fetch_kaggle

SLUG = "owner/brains"
TOKEN = "KGAT_secret-token-0123456789"
SIGNATURE = "signed-address-9876543210"


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ALL = 1 << 30
"""Passes a request on: a continued download first asks for the whole file, and hangs up on its headers."""
FILES = {"data/yes/Y1.jpg": bytes(range(256)) * 2000, "data/no/N 1.JPG": b"no" * 90_000}


@dataclass
class FakeKaggle:
    """What the server does, and what it was asked."""

    body: bytes = field(default_factory=lambda: make_zip(FILES))
    etag: str | None = '"v1"'
    md5: str | None = None
    accepts: str | None = f"Bearer {TOKEN}"
    api_status: list[int] = field(default_factory=list)
    drop_after: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)
    stored: list[dict[str, str]] = field(default_factory=list)

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.stored]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kaggle: FakeKaggle

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.kaggle.asked.append({**dict(self.headers), "path": self.path, "body": body.decode()})
        if self.kaggle.api_status:
            self._refuse(self.kaggle.api_status.pop(0))
        elif self.kaggle.accepts not in (None, self.headers.get("Authorization")):
            self._refuse(401)
        elif self.path != "/api/v1/datasets.DatasetApiService/DownloadDataset" or json.loads(body) != {
            "ownerSlug": "owner",
            "datasetSlug": "brains",
        }:
            self._refuse(404)
        else:
            self._redirect()

    def _redirect(self) -> None:
        self.send_response(302)
        port = self.headers["Host"].rsplit(":")[-1]
        self.send_header(
            "Location", f"http://localhost:{port}/bucket/archive.zip?X-Goog-Signature={SIGNATURE}"
        )
        self._end(b"")

    def do_GET(self) -> None:
        kaggle = self.kaggle
        kaggle.stored.append(dict(self.headers))
        start, wanted = 0, self.headers.get("Range")
        if wanted and kaggle.knows_ranges and self.headers.get("If-Range") == kaggle.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(kaggle.body) - 1}/{len(kaggle.body)}")
        if kaggle.etag:
            self.send_header("ETag", kaggle.etag)
        if kaggle.md5:
            self.send_header("X-Goog-Hash", f"crc32c=n03x6A==,md5={kaggle.md5}")
        body = kaggle.body[start:]
        sent = body[: kaggle.drop_after.pop(0)] if kaggle.drop_after else body
        self._end(sent, length=len(body))
        if len(sent) < len(body):
            self.close_connection = True

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0")
        self._end(json.dumps({"code": status, "message": "no"}).encode())

    def _end(self, body: bytes, length: int | None = None) -> None:
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def endpoints() -> tuple[dict[Any, str], Any]:
    """The SDK's table of addresses, and the key of the one for tests."""
    module = importlib.import_module("kagglesdk.kaggle_env")
    return module._env_to_endpoint, module.KaggleEnv.TEST


@pytest.fixture
def kaggle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoints: tuple[dict[Any, str], Any]
) -> Iterator[FakeKaggle]:
    state = FakeKaggle()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"kaggle": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setitem(*endpoints, address)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(destination: Path, retries: int = 3) -> Path:
    return fetch_kaggle(SLUG, destination, retries=retries, backoff_seconds=0.0)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECEIPT)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_data_set_arrives_whole_and_alone(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.md5 = base64.b64encode(hashlib.md5(kaggle.body).digest()).decode()
    destination = fetch(tmp_path / "raw" / "brains")
    assert content(destination) == FILES
    assert [path.name for path in destination.parent.iterdir()] == ["brains"]


def test_the_token_goes_to_kaggle_alone_and_is_written_nowhere(
    kaggle: FakeKaggle, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    kaggle.drop_after = [1000]
    fetch(tmp_path / "brains")
    assert kaggle.asked[0]["Authorization"] == f"Bearer {TOKEN}"
    assert all("Authorization" not in headers for headers in kaggle.stored)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    told = "".join(map(str, capfd.readouterr())) + caplog.text
    for secret in (TOKEN, SIGNATURE):
        assert secret not in told
        assert secret.encode() not in written


def test_a_finished_download_asks_nobody_again(kaggle: FakeKaggle, tmp_path: Path) -> None:
    fetch(tmp_path / "brains")
    fetch(tmp_path / "brains")
    assert len(kaggle.asked) == 1


def test_a_dropped_connection_continues_from_the_last_byte(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.drop_after = [200_000, ALL, 100_000]
    assert content(fetch(tmp_path / "brains")) == FILES
    continued = [wanted for wanted in kaggle.ranges() if wanted]
    assert len(continued) == 2
    assert all(int(wanted[6:-1]) > 0 for wanted in continued)


def test_the_next_command_continues_what_an_earlier_one_began(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.drop_after = [300_000]
    with pytest.raises(DownloadError, match=r"bytes are kept in .*\.part.*check the network"):
        fetch(tmp_path / "brains", retries=0)
    assert not (tmp_path / "brains").exists()
    assert content(fetch(tmp_path / "brains")) == FILES
    assert kaggle.ranges()[-1] == "bytes=262144-"


def test_progress_resets_the_count_of_failures(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.drop_after = [70_000] * 6
    assert content(fetch(tmp_path / "brains", retries=1)) == FILES


def test_another_version_of_the_file_starts_over(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.drop_after = [300_000]
    with pytest.raises(DownloadError):
        fetch(tmp_path / "brains", retries=0)
    kaggle.body, kaggle.etag = make_zip({"data/new.txt": b"new"}), '"v2"'
    assert content(fetch(tmp_path / "brains")) == {"data/new.txt": b"new"}


@pytest.mark.parametrize(("knows_ranges", "etag"), [(False, '"v1"'), (True, None)])
def test_a_server_that_cannot_continue_starts_over(
    kaggle: FakeKaggle, tmp_path: Path, knows_ranges: bool, etag: str | None
) -> None:
    kaggle.drop_after, kaggle.knows_ranges, kaggle.etag = [300_000], knows_ranges, etag
    assert content(fetch(tmp_path / "brains")) == FILES


def test_a_wrong_md5_is_never_unpacked(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.md5 = base64.b64encode(bytes(16)).decode()
    with pytest.raises(DownloadError, match="MD5"):
        fetch(tmp_path / "brains", retries=1)
    assert not (tmp_path / "brains").exists()
    assert not list(tmp_path.glob("*.zip*.part"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(kaggle: FakeKaggle, tmp_path: Path, status: int) -> None:
    kaggle.api_status = [status, status]
    assert content(fetch(tmp_path / "brains")) == FILES


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "did not accept the credentials"),
        (403, r"accept its terms"),
        (404, r"knows no data set owner/brains.*datasets/owner/brains"),
        (418, "HTTP 418"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_repeated(
    kaggle: FakeKaggle, tmp_path: Path, status: int, message: str
) -> None:
    kaggle.api_status = [status] * 9
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(tmp_path / "brains")
    assert TOKEN not in str(caught.value)
    assert len(kaggle.asked) == 1
    assert not (tmp_path / "brains").exists()


def test_without_credentials_a_public_set_is_fetched(
    kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    kaggle.accepts = None
    assert content(fetch(tmp_path / "brains")) == FILES
    assert "Authorization" not in kaggle.asked[0]


def test_without_credentials_a_refusal_tells_how_to_set_them(
    kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path / "brains")
    for way in (
        "KAGGLE_API_TOKEN",
        "~/.kaggle/access_token",
        "kaggle.json",
        "data=phantom",
        "data.sources.volumes.path",
    ):
        assert way in str(caught.value)


def test_a_key_of_the_older_kind_is_sent_as_basic_authentication(
    kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "older-key")
    kaggle.accepts = "Basic " + base64.b64encode(b"someone:older-key").decode()
    assert content(fetch(tmp_path / "brains")) == FILES


def test_no_network_names_the_way_out(
    kaggle: FakeKaggle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    endpoints: tuple[dict[Any, str], Any],
) -> None:
    monkeypatch.setitem(*endpoints, "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"nothing was received.*check the network"):
        fetch(tmp_path / "brains", retries=1)


def test_a_damaged_archive_is_thrown_away(kaggle: FakeKaggle, tmp_path: Path) -> None:
    kaggle.body = b"<html>sign in to the hotel's network</html>"
    with pytest.raises(DownloadError, match=r"damaged.*was deleted, run the same command again"):
        fetch(tmp_path / "brains")
    kaggle.body, kaggle.etag = make_zip(FILES), '"v2"'
    assert content(fetch(tmp_path / "brains")) == FILES


def test_a_kill_while_unpacking_unpacks_again_without_the_network(
    kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(archive: Path, folder: Path) -> int:
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("slicewise.data.download.kaggle.unpack_zip", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path / "brains")
    assert not (tmp_path / "brains").exists()
    assert content(fetch(tmp_path / "brains")) == FILES
    assert len(kaggle.asked) == 1


def test_a_full_disk_is_noticed_before_the_download(
    kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(WorkspaceError, match="downloading owner/brains needs"):
        fetch(tmp_path / "brains")


def test_a_folder_that_was_not_downloaded_is_left_alone(kaggle: FakeKaggle, tmp_path: Path) -> None:
    mine = tmp_path / "brains" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(DownloadError, match=r"not a finished download.*data\.sources\.volumes\.path"):
        fetch(tmp_path / "brains")
    assert mine.read_text() == "mine"
    assert kaggle.asked == []


@pytest.mark.parametrize(
    "slug", ["brains", "owner/brains/extra", "../x", "owner/", "https://kaggle.com/a/b", ""]
)
def test_a_wrong_name_is_refused_before_the_network(slug: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="write owner/dataset"):
        fetch_kaggle(slug, tmp_path / "x")
