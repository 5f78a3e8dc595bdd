import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fixtures.small_model import TASKS
from tests.inference.pipelines import pipeline
from torch import nn

from slicewise.config.schema import Model, Preprocessing
from slicewise.config.schema.model import TaskName
from slicewise.core.errors import CheckpointError
from slicewise.domain.labels import MODALITIES
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.models.program import Program, export_program

SIZE = 64
CHANNELS: dict[TaskName, int] = {"segmentation": 1, "classification": 1}


def trained(model: Model, **changes: Any) -> MultitaskModel:
    """A network whose statistics and values are not those that it began with."""
    torch.manual_seed(3)
    net = MultitaskModel(model.model_copy(update=changes), TASKS)
    net.train()(torch.randn(3, 4, SIZE, SIZE), torch.ones(3, 4))
    nn.init.normal_(net.slot_tokens.values)
    return net.eval()


def saved(net: MultitaskModel, path: Path) -> Checkpoint:
    preprocessing = Preprocessing(
        channels=MODALITIES,
        intensity="zscore_foreground",
        crop="brain",
        fit="resize",
        image_size=SIZE, clip_percentiles=(0.5, 99.5), crop_margin=0.05, min_brain_fraction=0.1,
        healthy_ratio=1.0, max_train_slices=64,
    )  # fmt: skip
    checkpoint = Checkpoint(
        net.state_dict(), net.settings, preprocessing, TASKS, "joint", {}, "a" * 64, "brats", False,
        "flair", program=export_program(net, SIZE),
    )  # fmt: skip
    save_checkpoint(path, checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        *((name, "resnet18") for name in ("unet", "unetplusplus", "pspnet", "deeplabv3plus")),
        *((name, "tu-tf_efficientnet_lite0") for name in ("fpn", "linknet")),
    ],
)
def test_a_program_gives_the_bits_of_its_network(model: Model, architecture: str, encoder: str) -> None:
    """`test_families` has every architecture and family, to a tolerance."""
    depth = 5 if architecture == "deeplabv3plus" else 4
    net = trained(model, architecture=architecture, encoder=encoder, encoder_depth=depth)

    plain = export_program(net, SIZE)

    assert plain is not None
    program = Program(plain, net.state_dict(), CHANNELS)
    for batch in (1, 2, 7):
        images, presence = torch.randn(batch, 4, SIZE, SIZE), torch.randint(0, 2, (batch, 4)).float()
        with torch.inference_mode():
            expected, found = net(images, presence), program(images, presence)
        assert all(torch.equal(found[name], expected[name]) for name in CHANNELS)


def test_recording_leaves_the_network_and_the_random_draws_as_they_are(model: Model) -> None:
    net = trained(model).train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()

    export_program(net, SIZE)

    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_network_whose_calls_depend_on_the_batch_has_no_program(model: Model) -> None:
    assert export_program(trained(model, architecture="manet"), SIZE) is None


def test_a_network_that_reads_tensors_of_its_own_has_no_program(model: Model) -> None:
    class Shifted(MultitaskModel):
        def forward(self, images: torch.Tensor, presence: torch.Tensor, tasks: Any = None) -> Any:
            return super().forward(images + shift, presence, tasks)

    shift = torch.tensor(0.5)
    net = trained(model)
    net.__class__ = Shifted

    assert export_program(net, SIZE) is None


def test_the_predictor_answers_alike_with_and_without_a_program(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    checkpoint = saved(trained(model), path)
    with_program = pipeline(load_checkpoint(path), batch_size=2)
    without = pipeline(replace(checkpoint, program=None), batch_size=2)
    images = np.random.default_rng(0).standard_normal((5, 4, SIZE, SIZE)).astype(np.float32)

    found, expected = (one.predict_slices(images, [1, 0, 1, 1]) for one in (with_program, without))

    assert all("model" not in vars(member) for member in with_program._members)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plain: plain.pop("calls"), "KeyError"),
        (lambda plain: plain["calls"].clear(), "0 calls"),
        (lambda plain: plain["calls"][0].__setitem__(0, "torch.load"), "torch.load"),
        (lambda plain: plain["calls"][3][1].__setitem__(1, {"weight": "none"}), "none"),
        (lambda plain: plain["calls"][3][1].__setitem__(0, {"call": 9999}), "10001"),
        (lambda plain: plain["calls"][3][1].__setitem__(0, 1 << 40), "not an argument"),
        (lambda plain: plain["calls"][3].append(1), "ValueError|too many"),
        (lambda plain: plain.__setitem__("size", 1 << 20), "size 1048576"),
        (lambda plain: plain["results"].update(segmentation=plain["results"]["classification"]), "shapes"),
        (lambda plain: plain.__setitem__("size", -1), "size -1"),
    ],
)
def test_a_damaged_program_is_refused(model: Model, tmp_path: Path, damage: Any, said: str) -> None:
    checkpoint = saved(trained(model), tmp_path / "a.pth")
    plain = copy.deepcopy(checkpoint.program)
    damage(plain)
    save_checkpoint(tmp_path / "b.pth", replace(checkpoint, program=plain))

    with pytest.raises(CheckpointError, match=said):
        Pipeline.load(tmp_path / "b.pth", device="cpu")


def test_a_program_cannot_ask_for_endless_memory(model: Model) -> None:
    net = trained(model)
    plain = export_program(net, SIZE)
    assert plain is not None
    number = next(i for i, call in enumerate(plain["calls"]) if call[0] == "functional.interpolate")
    plain["calls"][number][2] = {"scale_factor": 130, "mode": "nearest"}

    with pytest.raises(ValueError, match="numbers"):
        Program(plain, net.state_dict(), CHANNELS)


def test_a_program_of_other_weights_is_refused(model: Model, tmp_path: Path) -> None:
    checkpoint = saved(trained(model), tmp_path / "a.pth")
    other = trained(model, encoder="mobilenet_v2")

    with pytest.raises(CheckpointError, match="does not fit its weights"):
        pipeline(replace(checkpoint, weights=other.state_dict(), model=other.settings))


def test_a_prediction_imports_no_library_of_architectures(model: Model, tmp_path: Path) -> None:
    saved(trained(model), tmp_path / "best_model.pth")
    code = (
        "import sys, numpy as np\n"
        "from slicewise.inference.pipeline import Pipeline\n"
        f"pipeline = Pipeline.load({str(tmp_path / 'best_model.pth')!r}, device='cpu')\n"
        f"pipeline.predict_slices(np.zeros((1, 4, {SIZE}, {SIZE}), np.float32), [1, 1, 1, 1])\n"
        "print([name for name in ('segmentation_models_pytorch', 'timm', 'torchvision', 'torch._dynamo',\n"
        "    'sympy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
