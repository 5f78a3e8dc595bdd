"""The temporary folder of the API is full, closed or gone: said with its name, and logged."""

import io
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.test_full_disk import Tmpfs, mounted

from slicewise.config.compose import compose
from slicewise.data.cases import CaseFiles, require_readable
from slicewise.data.problems import Problem
from slicewise.inference.pipeline import Pipeline
from slicewise.serving.api.app import create_app

SERVING = compose([]).serving.model_copy(update={"max_upload_mib": 8})
SMALL, LARGE = "in memory until it is read", "spooled to disk as it arrives"


@pytest.fixture(scope="module")
def client(checkpoint_path: Path, cases_dir: Path) -> Iterator[TestClient]:
    app = create_app(Pipeline.load(checkpoint_path, device="cpu"), SERVING, cases_dir=cases_dir)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(params=[SMALL, LARGE])
def picture(request: pytest.FixtureRequest) -> bytes:
    """Starlette holds uploads up to 1 MiB in memory and writes larger ones to the temporary folder."""
    side = 64 if request.param == SMALL else 1500
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)).save(stream, "PNG")
    assert (len(stream.getvalue()) > 1 << 20) is (request.param == LARGE)
    return stream.getvalue()


def post(client: TestClient | httpx.Client, picture: bytes) -> Any:
    return client.post("/predict", files={"file": ("a.png", picture)})


def refused(client: TestClient, picture: bytes, status: int, folder: Path, caplog: Any) -> str:
    """Return what is answered, once it is clear that it has this status, names the folder and is logged."""
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        response = post(client, picture)
    assert response.status_code == status, response.text
    error = str(response.json()["detail"])
    assert str(folder) in error
    assert "TMPDIR" in error
    assert any(error in record.getMessage() for record in caplog.records)
    assert client.get("/healthz").status_code == 200
    return error


@contextmanager
def full(folder: Path) -> Iterator[str]:
    with mounted(folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        Tmpfs(folder).fill()
        yield "the disk is full (0.0 MiB free of 1)"


@contextmanager
def without_inodes(folder: Path) -> Iterator[str]:
    with mounted(folder, "-t", "tmpfs", "-o", "size=4m,nr_inodes=2", "tmpfs"):
        (folder / "last").touch()
        yield "but no further file (inode)"


@contextmanager
def small_files(_: Path) -> Iterator[str]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield "ulimit -f"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def read_only(folder: Path) -> Iterator[str]:
    with mounted(folder, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        yield "the file system is read-only"


@contextmanager
def gone(folder: Path) -> Iterator[str]:
    folder.rmdir()
    yield "the folder does not exist"
    folder.mkdir()


@contextmanager
def a_file(folder: Path) -> Iterator[str]:
    folder.rmdir()
    folder.touch()
    yield "a file lies where a folder would have to be"
    folder.unlink()
    folder.mkdir()


@pytest.mark.parametrize(
    ("fault", "status"),
    [(full, 507), (without_inodes, 507), (small_files, 507), (read_only, 503), (gone, 503), (a_file, 503)],
)
def test_an_upload_that_cannot_be_stored(
    client: TestClient,
    temporary: Path,
    picture: bytes,
    fault: Callable[[Path], Any],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with fault(temporary) as words:
        assert words in refused(client, picture, status, temporary, caplog)
    assert post(client, picture).status_code == 200, "there is room again"
    assert list(temporary.iterdir()) == []


def test_there_is_room_for_one_copy_but_not_for_two(
    client: TestClient, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The spooled upload fits, the file that is read does not."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1200, 1200), np.uint8)).save(stream, "PNG")
    with mounted(temporary, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        refused(client, stream.getvalue(), 507, temporary, caplog)
        assert list(temporary.iterdir()) == [], "nothing half-written stays"


def test_a_folder_that_goes_while_its_files_are_read_is_no_fault_of_the_files(
    client: TestClient,
    temporary: Path,
    volume_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sweep(case: CaseFiles) -> list[Problem]:
        shutil.rmtree(temporary)
        return require_readable(case)

    monkeypatch.setattr("slicewise.serving.api.input_files.require_readable", sweep)
    response = client.post("/predict", files={"flair": ("a.nii.gz", volume_path.read_bytes())})
    assert response.status_code == 503
    assert "the folder does not exist" in response.json()["detail"]


def test_results_need_no_room_on_disk(client: TestClient, temporary: Path, volume_path: Path) -> None:
    answer = client.post("/predict", files={"flair": ("a.nii.gz", volume_path.read_bytes())}).json()
    temporary.rmdir()
    assert client.get(answer["mask_url"]).status_code == 200
    assert client.get(f"/results/{answer['id']}/slices/6.png").status_code == 200
    assert client.post("/cases/Phantom_10000/predict").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("log", ["a file", "/dev/full"])
def test_a_server_says_so_and_goes_on_even_where_its_log_is_full(
    log: str, tmp_path: Path, checkpoint_path: Path, free_port: Callable[[], int], temporary: Path
) -> None:
    port, log_path = free_port(), Path(log) if log.startswith("/") else tmp_path / "api.log"
    words = {
        "--checkpoint": checkpoint_path,
        "--device": "cpu",
        "--serving": SERVING.model_copy(update={"api_port": port}).model_dump_json(),
        "--settings": compose([]).evaluation.model_dump_json(),
        "--cases": tmp_path / "none",
    }
    command = [
        sys.executable,
        "-m",
        "slicewise.serving.api.app",
        *(str(part) for pair in words.items() for part in pair),
    ]
    with full(temporary), log_path.open("ab") as stream:
        # One small file fits while Python looks for a temporary folder.
        (temporary / "filler").write_bytes(b"")
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | {"TMPDIR": str(temporary)}
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                wait_for(client, server)
                response = post(client, b"\x89PNG\r\n\x1a\n" + bytes(6 << 20))
                assert response.status_code == 507, response.text
                assert str(temporary) in response.json()["detail"]
                assert client.get("/healthz").status_code == 200
        finally:
            server.terminate()
            server.wait()
    if log_path.is_file():
        assert (
            f"POST /predict: 507, {temporary}, where uploads are stored, has no room" in log_path.read_text()
        )


def wait_for(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server ended")
