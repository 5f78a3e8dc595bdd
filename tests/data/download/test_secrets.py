"""A credential is in no file, no line and no traceback, however a download fails."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Pipeline
from tests.data.download.test_kaggle import SIGNATURE, TOKEN, FakeKaggle, endpoints, kaggle

from slicewise.cli.main import main

__all__ = ["endpoints", "kaggle"]

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SECRETS = (TOKEN, KEY, SIGNATURE)
OVERRIDES = ("data=brats", "data.sources.volumes.kaggle=owner/brains", "data.sources.pictures=null")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def require_clean(folder: Path, *said: str) -> None:
    texts = [
        *said,
        *(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()),
    ]
    basic = base64.b64encode(f"someone:{KEY}".encode()).decode()
    for secret in (*SECRETS, basic):
        assert not any(secret in text for text in texts), secret


def fail(workspace: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert Pipeline(workspace, OVERRIDES).run("--mode", "data-only") == 1
    captured = capsys.readouterr()
    require_clean(workspace, captured.out, captured.err)
    assert (workspace / "pipeline_results.json").is_file()
    assert list((workspace / "logs").glob("*.log"))
    return captured.err


@pytest.mark.parametrize("trouble", ["refused", "forbidden", "busy", "broken", "damaged"])
def test_a_failing_download_tells_nobody(
    trouble: str, kaggle: FakeKaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    match trouble:
        case "refused":
            kaggle.accepts = "Bearer another"
        case "forbidden":
            kaggle.api_status = [403]
        case "busy":
            kaggle.api_status = [503] * 20
        case "broken":
            kaggle.drop_after = [0] * 20
        case "damaged":
            kaggle.body = b"no archive " + TOKEN.encode()
    fail(tmp_path / "workspace", capsys)
    assert kaggle.asked[0]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("source", ["environment", "kaggle.json", "access_token"])
def test_wherever_the_credential_comes_from(
    source: str,
    kaggle: FakeKaggle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    if source == "environment":
        monkeypatch.setenv("KAGGLE_USERNAME", "someone")
        monkeypatch.setenv("KAGGLE_KEY", KEY)
    elif source == "kaggle.json":
        (folder / "kaggle.json").write_text(json.dumps({"username": "someone", "key": KEY}))
    else:
        (folder / "access_token").write_text(KEY)
    fail(tmp_path / "workspace", capsys)
    assert kaggle.asked[0]["Authorization"]


def test_an_unexpected_error_that_quotes_the_credential(
    kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def quote(*_: Any) -> None:
        raise RuntimeError(f"sent 'Authorization: Bearer {TOKEN}' to https://u:{KEY}@host/a?sig={SIGNATURE}")

    monkeypatch.setattr("slicewise.data.download.kaggle._open_archive", quote)
    err = fail(tmp_path / "workspace", capsys)
    assert "RuntimeError" in err
    (log,) = (tmp_path / "workspace" / "logs").glob("*.log")
    assert "Traceback" in log.read_text()
    assert "[hidden]" in log.read_text()


@pytest.mark.parametrize(
    "override",
    [
        f"data.sources.volumes.path=/x/{KEY}",
        f"+kaggle.key={KEY}",
        "data.name=${oc.env:KAGGLE_KEY}",
        f"training.batch_size={KEY}",
    ],
)
@pytest.mark.parametrize("verb", ["config", "run", "plan"])
def test_a_credential_given_as_an_override_is_refused_and_not_repeated(
    verb: str,
    override: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    assert main([verb, "--workspace", str(tmp_path / "w"), override]) == 2
    captured = capsys.readouterr()
    require_clean(tmp_path, captured.out, captured.err)


def test_a_fault_outside_of_a_step_is_told_without_the_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def quote(*_: Any) -> None:
        raise RuntimeError(f"key {KEY}")

    monkeypatch.setenv("KAGGLE_KEY", KEY)
    monkeypatch.setattr("slicewise.cli.options.compose_from", quote)
    assert main(["config", "--workspace", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError: key [hidden]" in err
    assert "bug in SliceWise" in err
