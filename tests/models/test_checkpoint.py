import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from tests.fixtures.small_model import PREPROCESSING, TASKS

from slicewise.config.schema import Model
from slicewise.core.errors import CheckpointError
from slicewise.models.checkpoint import (
    Checkpoint,
    gives_same_masks,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from slicewise.models.multitask import MultitaskModel


@pytest.fixture
def checkpoint(model: Model) -> Checkpoint:
    torch.manual_seed(1)
    net = MultitaskModel(model, TASKS)
    net(torch.randn(2, 4, 32, 32), torch.ones(2, 4))  # moves the batch-norm statistics from their defaults
    torch.nn.init.normal_(net.slot_tokens.values)
    return Checkpoint(
        weights=net.state_dict(),
        model=model,
        preprocessing=PREPROCESSING.model_copy(update={"image_size": 32}),
        tasks=TASKS.only(("segmentation",)),
        stage="seg_warmup",
        metrics={"dice": 0.5},
        fingerprint="f" * 64,
        data_name="phantom",
        synthetic=True,
        slot="flair",
    )


def test_a_checkpoint_comes_back_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, checkpoint)

    loaded = load_checkpoint(path, checkpoint.model)

    for field in dataclasses.fields(Checkpoint):
        if field.name != "weights":
            assert getattr(loaded, field.name) == getattr(checkpoint, field.name)
    assert list(loaded.weights) == list(checkpoint.weights)
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in checkpoint.weights.items())
    assert [file.name for file in tmp_path.iterdir()] == ["best_model.pth"]


def test_transfer_copies_every_tensor(checkpoint: Checkpoint) -> None:
    torch.manual_seed(2)
    net = MultitaskModel(checkpoint.model, TASKS)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    load_weights(net, checkpoint)

    assert all(torch.equal(tensor, checkpoint.weights[name]) for name, tensor in net.state_dict().items())
    assert any(
        not torch.equal(before[name], checkpoint.weights[name]) for name in before if "decoder" in name
    )


@pytest.mark.parametrize("prefix", ["encoder.", "decoder.", "mask_head.", "class_head.", "slot_tokens."])
def test_transfer_refuses_weights_that_lack_a_part(checkpoint: Checkpoint, prefix: str) -> None:
    kept = {name: tensor for name, tensor in checkpoint.weights.items() if not name.startswith(prefix)}
    assert len(kept) < len(checkpoint.weights)

    with pytest.raises(CheckpointError, match=prefix):
        load_weights(MultitaskModel(checkpoint.model, TASKS), dataclasses.replace(checkpoint, weights=kept))


@pytest.mark.parametrize(("name", "same"), [("class_head.", True), ("decoder.", False), ("encoder.", False)])
def test_networks_give_the_same_masks_if_only_the_classification_head_differs(
    checkpoint: Checkpoint, name: str, same: bool
) -> None:
    changed = {
        key: tensor + 1 if key.startswith(name) else tensor for key, tensor in checkpoint.weights.items()
    }
    assert gives_same_masks(checkpoint, dataclasses.replace(checkpoint, weights=changed)) is same
    bare = {key: tensor for key, tensor in checkpoint.weights.items() if not key.startswith("slot")}
    assert not gives_same_masks(checkpoint, dataclasses.replace(checkpoint, weights=bare))


def test_transfer_refuses_weights_that_nothing_takes(checkpoint: Checkpoint) -> None:
    more = {**checkpoint.weights, "module.decoder.weight": torch.zeros(1)}

    with pytest.raises(CheckpointError, match=r"module\.decoder\.weight"):
        load_weights(MultitaskModel(checkpoint.model, TASKS), dataclasses.replace(checkpoint, weights=more))


def test_build_gives_the_same_answers_in_evaluation_mode(checkpoint: Checkpoint) -> None:
    images, presence = torch.randn(2, 4, 32, 32), torch.ones(2, 4)

    first, second = checkpoint.build(), checkpoint.build()

    assert not first.training
    assert torch.equal(first(images, presence)["segmentation"], second(images, presence)["segmentation"])


def test_another_model_is_refused_by_the_keys_that_differ(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, checkpoint)
    other = checkpoint.model.model_copy(update={"encoder": "resnet34", "head_hidden": 9})

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, other)

    message = str(caught.value)
    assert str(path) in message
    assert "model.encoder: 'resnet18' in the file, 'resnet34' configured" in message
    assert "model.head_hidden" in message
    assert "model.architecture" not in message


def test_a_file_of_an_earlier_format_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "version": 1}, path)

    with pytest.raises(CheckpointError, match="lacks the tasks and channels of the model; train again"):
        load_checkpoint(path)


def test_a_head_that_was_not_trained_is_handed_on_and_not_predicted(checkpoint: Checkpoint) -> None:
    model = checkpoint.build()
    assert [*model(torch.randn(1, 4, 32, 32), torch.ones(1, 4))] == ["segmentation"]
    assert not hasattr(model, "class_head")

    whole = MultitaskModel(checkpoint.model, TASKS)
    load_weights(whole, checkpoint)
    name = "class_head.layers.2.weight"
    assert torch.equal(whole.state_dict()[name], checkpoint.weights[name])


def test_a_model_with_other_tasks_takes_no_weights(checkpoint: Checkpoint) -> None:
    assert TASKS.segmentation is not None
    other = TASKS.segmentation.model_copy(update={"classes": ("lesion",)})
    model = MultitaskModel(checkpoint.model, TASKS.model_copy(update={"segmentation": other}))
    with pytest.raises(CheckpointError, match=r"another tasks\.segmentation .*tumour.*lesion"):
        load_weights(model, checkpoint)


def test_where_the_first_weights_came_from_does_not_matter(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pth", checkpoint)

    load_checkpoint(tmp_path / "c.pth", checkpoint.model.model_copy(update={"encoder_weights": "imagenet"}))


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this code must not run",))


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, write in (("zip.pth", torch.save), ("plain.pth", lambda value, file: pickle.dump(value, file))):
        with (tmp_path / name).open("wb") as file:
            write({"format": Harmful()}, file)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kept", [0, 10, 5000, -100])
def test_a_truncated_file_is_named(checkpoint: Checkpoint, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(CheckpointError, match="best_model"):
        load_checkpoint(path)


def test_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.pth")
    (tmp_path / "text.pth").write_text("hello")

    for name in ("foreign.pth", "text.pth", "missing.pth"):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)


def test_a_field_that_is_missing_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    del content["slot"]
    torch.save(content, path)

    with pytest.raises(CheckpointError, match="slot"):
        load_checkpoint(path)


def test_the_digest_is_that_of_the_weights_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pth", dataclasses.replace(checkpoint, fingerprint="f" * 64))
    assert load_checkpoint(tmp_path / "c.pth").weights_digest == checkpoint.weights_digest
    name = next(iter(checkpoint.weights))
    other = {**checkpoint.weights, name: checkpoint.weights[name] + 1e-3}
    assert dataclasses.replace(checkpoint, weights=other).weights_digest != checkpoint.weights_digest
