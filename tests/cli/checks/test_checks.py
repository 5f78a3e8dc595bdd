"""Each check of `slicewise doctor`, both ways."""

import socket
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.engine.test_lock import controller, said

from slicewise.cli.checks import inputs, machine
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.demo.lifecycle import is_free
from slicewise.engine.workspace import Workspace


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(["modes=quick"])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "not" / "there" / "yet")


def versions_with(monkeypatch: pytest.MonkeyPatch, **other: str | None) -> None:
    """Let some packages have another version, or none."""
    real: Callable[[str], str] = metadata.version

    def version(name: str) -> str:
        if name not in other:
            return real(name)
        if other[name] is None:
            raise metadata.PackageNotFoundError(name)
        return str(other[name])

    monkeypatch.setattr(machine, "version", version)


def test_python() -> None:
    assert machine.python_version().level == "good"
    old = machine.python_version((3, 10, 4))
    assert (old.level, old.found) == ("bad", "3.10.4")


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.packages().level == "good"
    versions_with(monkeypatch, monai=None, numpy="1.26.4")
    found = machine.packages()
    assert found.level == "bad"
    assert "numpy is 1.26.4, needed >=2" in found.found
    assert "monai is missing" in found.found
    versions_with(monkeypatch, fastapi=None)
    assert machine.packages().level == "warn"


def test_torch_and_torchvision_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.torch_pair().level == "good"
    versions_with(monkeypatch, torch="2.1.0+cpu")
    assert "torch 2.1.0+cpu with torchvision" in machine.torch_pair().found
    assert machine.torch_pair().level == "bad"
    versions_with(monkeypatch, torchvision=None)
    assert machine.torch_pair().level == "bad"


def test_where_the_first_weights_come_from(config: Config) -> None:
    def found(encoder: str, weights: str | None) -> str:
        model = config.model.model_copy(update={"encoder": encoder, "encoder_weights": weights})
        check = inputs.encoder_weights(config.model_copy(update={"model": model}))
        return f"{check.level}: {check.found}"

    assert inputs.encoder_weights(config).found.endswith("is installed")
    assert found("resnet18", None) == "good: resnet18 starts from random weights"
    assert found("resnet18", "imagenet").startswith("warn: imagenet for resnet18 is downloaded")


def test_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "utf-8")
    monkeypatch.setattr("locale.getpreferredencoding", lambda do_setlocale: "UTF-8")
    assert machine.encoding().level == "good"
    monkeypatch.setattr("locale.getpreferredencoding", lambda do_setlocale: "ANSI_X3.4-1968")
    assert machine.encoding().level == "warn"


def test_cores(config: Config) -> None:
    assert machine.cores(config, {}, 8).level == "good"
    eight = compose(["runtime.num_threads=8"])
    assert machine.cores(eight, {}, 2).advice == "the container may use 2: set runtime.num_threads=2"
    two = compose(["runtime.num_threads=2"])
    assert machine.cores(two, {}, 2).level == "good"
    assert machine.cores(two, {"OMP_NUM_THREADS": "8"}, 2).advice == "export OMP_NUM_THREADS=2"


@pytest.mark.parametrize("name", ["nonsense", "tu-nonsense"])
def test_an_encoder_that_nobody_knows_is_told_before_a_run(name: str) -> None:
    found = inputs.encoder_weights(compose([f"model.encoder={name}"]))
    assert (found.level, name in found.found) == ("bad", True)
    assert len(found.found) <= 300


def test_tracking_needs_its_packages(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    on = compose(["tracking.mlflow=true"])
    assert inputs.tracking(Workspace(Path()), config).level == "good"
    monkeypatch.setattr("slicewise.workflow.observers.find_spec", lambda name: None)
    found = inputs.tracking(Workspace(Path()), on)
    assert (found.level, found.found) == ("bad", "tracking.mlflow=true needs mlflow, sqlalchemy, alembic")
    assert found.advice.startswith("install slicewise[tracking]")
    monkeypatch.setattr("slicewise.workflow.observers.find_spec", lambda name: name)
    assert inputs.tracking(Workspace(Path()), on).found == "mlflow"


def test_memory(config: Config) -> None:
    assert machine.memory(config).found.endswith("MiB free") or machine.memory(config).level != "good"
    assert [machine.memory(config, mib * MIB).level for mib in (512, 2000, 8000)] == ["bad", "warn", "good"]


def test_accelerator(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    none = tmp_path / "none"
    monkeypatch.setattr(machine, "has_native_bf16", lambda: False)
    assert machine.accelerator(config, none, "linux").found == "cpu, without bf16 in hardware"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.accelerator(compose(["runtime.device=cuda"]), none, "linux").level == "bad"
    assert machine.accelerator(config, tmp_path, "linux").level == "warn", "a card without a driver"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert machine.accelerator(config, tmp_path, "linux").found == "Card, with bf16"


def test_ports(config: Config) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = compose([f"serving.page_port={port}"])
        found = machine.ports(busy)
        assert (found.level, str(port) in found.found) == ("bad", True)
        assert f"serving.page_port={port + 10}" in found.advice
        assert machine.ports(busy, wants_demo=False).level == "good"
        assert machine.ports(busy, of_our_demo=[port + 1]).level == "bad", "its demo runs on another port"
        whole = [config.serving.api_port, port]
        assert machine.ports(busy, of_our_demo=whole).found.endswith("in use by this workspace's demo")
    assert is_free(port)


def test_supervisor(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: set[str] = set()
    monkeypatch.setattr("shutil.which", lambda name: name if name in installed else None)
    assert machine.supervisor(config).found == "SliceWise itself"
    assert machine.supervisor(compose(["serving.supervisor=pm2"])).level == "bad"
    assert machine.supervisor(compose(["serving.supervisor=pm2"]), wants_demo=False).level == "good"
    installed.add("pm2")
    assert machine.supervisor(config).found == "pm2 without node"
    installed.add("node")
    assert machine.supervisor(config).found == "pm2"


def test_workspace(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.writable(workspace).level == "good"
    assert not list(tmp_path.iterdir()), "nothing is left behind"

    def refuse(path: Path, *_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)  # a mode would not stop root
    found = machine.writable(workspace)
    assert (found.level, "Permission denied" in found.found) == ("bad", True)


def test_disk(workspace: Workspace, config: Config) -> None:
    needed = machine.needed_bytes(config)
    assert needed > 600 * MIB
    for free, level in ((needed - 1, "bad"), (needed + MIB, "warn"), (2 * needed, "good")):
        assert machine.disk(workspace, config, free).level == level
    assert machine.needed_bytes(compose(["modes=production", "data=brats"])) > 10 * needed
    data = workspace.root / "data"
    data.mkdir(parents=True)
    (data / "there").write_bytes(bytes(10 * MIB))
    assert machine.disk(workspace, config, needed - 1).level == "warn", "what is there is not needed again"


@pytest.mark.parametrize(
    "key", ["data.sources.volumes.path", "data.sources.pictures.path", "training.start_from"]
)
def test_inputs(key: str, config: Config, tmp_path: Path) -> None:
    assert inputs.named_files(config).found == "none named"
    path = tmp_path / "a; b"
    named = compose(["data=brats", f"{key}='{path}'"])
    missing = inputs.named_files(named)
    assert (missing.level, key in missing.found, str(path) in missing.found) == ("bad", True, True)
    assert missing.advice.startswith(("correct the path", "name a best_model.pth"))
    path.write_text("weights") if key == "training.start_from" else path.mkdir()
    assert (inputs.named_files(named).level, inputs.named_files(named).found) == ("good", f"{path} found")


def test_kaggle(
    workspace: Workspace, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    brats = compose(["data=brats"])
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inputs.credentials(workspace, config).level == "good"
    assert "brats and kaggle_mri" in inputs.credentials(workspace, brats).found
    assert inputs.credentials(workspace, brats).level == "warn"
    alone = ["data=brats", "data.sources.pictures=null"]
    assert inputs.credentials(workspace, compose(alone)).found == "no credentials; brats may need them"
    assert inputs.credentials(workspace, compose([*alone, "data.sources.volumes.path=/x"])).level == "good"
    (tmp_path / "kaggle.json").write_text("{")
    assert inputs.credentials(workspace, brats).level == "bad"
    (tmp_path / "kaggle.json").write_text('{"username": "anna", "key": "a-secret-key"}')
    found = inputs.credentials(workspace, brats)
    assert found.level == "good"
    assert "secret" not in repr(found)
    assert "anna" not in repr(found)


def test_lock(workspace: Workspace) -> None:
    assert machine.lock(workspace).level == "good"
    with controller(workspace.state / "lock", "real") as holder:
        assert said(holder) == "held"
        found = machine.lock(workspace)
    assert (found.level, f"process {holder.pid}" in found.found) == ("warn", True)


def pictures(root: Path, number: int) -> Config:
    """Write pictures with tumour and without, and return a configuration that names their folder."""
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for index in range(number):
        path = root / ("yes" if index % 2 else "no") / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(path)
    return compose(["data=brats", f"data.sources.pictures.path={root}"])


def test_pictures_that_cannot_be_read_are_named(workspace: Workspace, tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    config = pictures(root, 10)
    found = inputs.data(workspace, config)
    counts = "kaggle_mri: 10 pictures with a label, 10 opened, {} of these cannot be read"
    assert (found.level, found.found) == ("good", counts.format(0))
    (root / "no" / "004.png").write_bytes(b"no picture")
    whole = (root / "yes" / "003.png").read_bytes()
    (root / "yes" / "003.png").write_bytes(whole[: len(whole) // 2])
    found = inputs.data(workspace, config)
    assert found.level == "warn"
    assert found.found.startswith(counts.format(2))
    assert "no/004.png: " in found.found
    assert "yes/003.png: " in found.found
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")
    found = inputs.data(workspace, config)
    assert found.level == "bad"
    assert found.found.startswith("kaggle_mri: none of the 10 pictures opened in")


def test_of_many_pictures_a_bounded_number_is_opened_from_every_part(
    workspace: Workspace, tmp_path: Path
) -> None:
    config = pictures(tmp_path / "pictures", 200)
    for path in (tmp_path / "pictures" / "yes").iterdir():
        path.write_bytes(b"no picture")
    found = inputs.data(workspace, config).found
    assert found.startswith(
        "kaggle_mri: 200 pictures with a label, 50 opened, 25 of these cannot be read (yes/"
    )
    assert "; and 20 more)" in found
