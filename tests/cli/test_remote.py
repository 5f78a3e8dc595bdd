"""`slicewise push` and `pull`, with a folder and with an S3 server on this machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.conftest import Pipeline

from slicewise.cli.main import main
from slicewise.core.files import read_json


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An S3 server with an empty bucket, and the settings with which a user would reach it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "user", "SECRET_ACCESS_KEY": "hidden-key", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    import s3fs

    name = f"bucket-{uuid4()}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    try:
        yield f"s3://{name}/brains"
    finally:
        server.stop()


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "bucket":
        return str(request.getfixturevalue("bucket"))
    return str(tmp_path / "remote")


@pytest.fixture
def colleague(trained: Pipeline, tmp_path: Path) -> Pipeline:
    """A workspace with the same data, in which nothing has run."""
    colleague = Pipeline(tmp_path / "colleague", trained.overrides)
    shutil.copytree(trained.workspace / "data" / "raw", colleague.workspace / "data" / "raw")
    return colleague


def push(pipeline: Pipeline, address: str, *words: str) -> int:
    return main(["push", address, "--workspace", str(pipeline.workspace), *words])


@pytest.mark.parametrize("address", ["folder", "bucket"], indirect=True)
def test_a_colleague_trains_nothing_that_was_pushed(
    trained: Pipeline, colleague: Pipeline, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(trained, address) == 0
    assert capsys.readouterr().out.count("pushed, ") == 3
    assert push(trained, address) == 0
    assert capsys.readouterr().out.count("already there") == 3
    assert main(["pull", address, "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "train.cls_head",
        "train.joint",
        "train.seg_warmup",
    ]
    assert colleague.call("pull", address) == 0
    assert capsys.readouterr().out.count("pulled, ") == 3
    assert colleague.call("pull", address) == 0
    assert capsys.readouterr().out.count("already here") == 3
    assert colleague.call("plan", "--until", "train") == 0
    assert "train.joint" in capsys.readouterr().out
    assert colleague.run("--until", "train") == 0
    assert colleague.ran() == ["download", "preprocess", "split"]
    reasons = {name: step["reason"] for name, step in colleague.record["steps"].items()}
    assert reasons["train.joint"] == f"unchanged, pulled from {address}"
    theirs, ours = (
        (each.workspace / "checkpoints/multitask_joint/best_model.pth").read_bytes()
        for each in (trained, colleague)
    )
    assert theirs == ours
    assert main(["verify", "--workspace", str(colleague.workspace)]) == 0


def test_pictures_and_names_of_patients_are_pushed_only_where_they_are_named(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = tmp_path / "remote"
    assert push(trained, str(remote), "--dry-run") == 0
    assert not remote.exists()
    assert "samples/" not in capsys.readouterr().out
    assert push(trained, str(remote)) == 0
    patients = read_json(trained.workspace / "data/split/split.json")["sources"]["phantom"]
    names = [name.encode() for subset in patients.values() for name in subset]
    assert names
    pushed = [path.read_bytes() for path in remote.rglob("*") if path.is_file()]
    assert not [name for name in names for content in pushed if name in content]
    assert not [content for content in pushed if b"samples/" in content]
    pictures = {path.read_bytes() for path in trained.workspace.glob("checkpoints/*/samples/*")}
    assert pictures
    assert not pictures & {*pushed}
    assert push(trained, str(remote), "--samples") == 0
    assert pictures <= {path.read_bytes() for path in remote.rglob("*") if path.is_file()}
    assert push(trained, str(remote)) == 0  # the fuller one stays
    assert capsys.readouterr().out.count("already there") == 3


def test_preprocessed_slices_are_reused_where_they_were_named(
    trained: Pipeline, colleague: Pipeline, tmp_path: Path
) -> None:
    remote = str(tmp_path / "remote")
    assert push(trained, remote, "--steps", "preprocess,split") == 0
    assert colleague.call("pull", remote, "--steps", "preprocess,split") == 0
    assert colleague.run("--until", "split") == 0
    assert colleague.ran() == ["download"]


def test_a_model_is_pulled_by_its_fingerprint_without_any_data(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote, elsewhere = str(tmp_path / "remote"), tmp_path / "elsewhere"
    assert push(trained, remote, "--steps", "joint") == 0
    fingerprint = capsys.readouterr().out.split()[1]
    pull = ["pull", remote, "--workspace", str(elsewhere)]
    assert main([*pull, "--steps", "train.joint@beef"]) == 1
    assert f"there are {fingerprint}" in capsys.readouterr().err
    assert main([*pull, "--steps", f"train.joint@{fingerprint[:6]}"]) == 0
    assert (elsewhere / "checkpoints/multitask_joint/best_model.pth").is_file()
    assert main([*pull, "--steps", "train.joint@latest"]) == 0
    assert "already here" in capsys.readouterr().out
    assert main([*pull, "--steps", "train.cls_head@latest"]) == 1
    assert "has no output of train.cls_head" in capsys.readouterr().err
    assert main([*pull, "--steps", "train@aa"]) == 2
    assert "a fingerprint is that of one step" in capsys.readouterr().err


def test_other_settings_are_told(
    trained: Pipeline, colleague: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = str(tmp_path / "remote")
    assert push(trained, remote) == 0
    assert (
        colleague.with_overrides("training.clip_norm=0.3").call("pull", remote, "--steps", "seg-warmup") == 1
    )
    assert "training.clip_norm: 1 -> 0.3" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "remote"], "holds no finished output of train."),
        (["push", "remote", "--steps", "trian"], "no such step has run here"),
        (["push", "nonsense://a"], "name a folder, or an address such as s3://bucket/folder"),
        (["pull", "remote", "--steps", "trian"], "did you mean train?"),
    ],
)
def test_wrong_input(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--workspace", str(tmp_path / "w")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_bucket_that_refuses_is_explained(
    bucket: str, trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(trained, "s3://no-such-bucket/x") == 1
    error = capsys.readouterr().err
    assert "s3://no-such-bucket/x cannot be used" in error
    assert "hidden-key" not in error
