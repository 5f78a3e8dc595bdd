import dataclasses
from pathlib import Path

import pytest
import torch

from slicewise.core.errors import CheckpointError
from slicewise.domain.reference import Appearance, KnownPatients, TrainingReference
from slicewise.inference.operating_points import CALIBRATION_NAME, find_calibration
from slicewise.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

REFERENCE = TrainingReference(
    (KnownPatients.of("salt", ["P1"], ["image"]),),
    {"volume": Appearance(1, {"rows": (1.0, 2.0, 3.0)}, {"cases with a skull": 0.5})},
)


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.safetensors", dataclasses.replace(checkpoint, reference=REFERENCE))
    return tmp_path


def test_the_folder_comes_back_as_the_same_model(folder: Path, checkpoint: Checkpoint) -> None:
    for path in (folder, folder / "model.safetensors"):
        loaded = load_checkpoint(path)
        assert loaded == dataclasses.replace(checkpoint, weights=loaded.weights)
        assert loaded.weights_digest == checkpoint.weights_digest
        assert loaded.program is None
    images, presence = torch.randn(2, 4, 64, 64), torch.ones(2, 4)
    with torch.inference_mode():
        first, second = (each.build()(images, presence) for each in (checkpoint, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_remembers_how_training_cases_look_but_not_who_they_were(folder: Path) -> None:
    reference = load_checkpoint(folder).reference
    assert reference is not None
    assert reference.appearance == REFERENCE.appearance
    assert reference.patients == ()
    assert "salt" not in (folder / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json does not exist"),
        ("model.safetensors", None, "a folder, not a checkpoint"),
        ("config.json", b"[1", "is damaged"),
        ("config.json", b'{"format": "gpt"}', "lacks the fields"),
        ("model.safetensors", b"\xff" * 40, "is damaged"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, name: str, content: bytes | None, message: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_operating_points_lie_in_the_folder(folder: Path) -> None:
    (folder / CALIBRATION_NAME).write_text("{}", encoding="utf-8")
    assert (
        find_calibration(folder)
        == find_calibration(folder / "model.safetensors")
        == folder / CALIBRATION_NAME
    )
