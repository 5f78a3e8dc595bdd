"""Every architecture and family of encoders is built, takes a training step, and predicts."""

import pytest
import torch

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.schema.model import SMP_ARCHITECTURES
from slicewise.data.loading.dataset import Batch
from slicewise.models.catalogue import ENCODERS
from slicewise.models.program import Program, export_program
from slicewise.training.learner import Learner, encode_targets

SIZE = 128
SMALLEST = {family: names[0] for family, names in ENCODERS.items()}
WITH = {
    "unetplusplus": "EfficientNet",
    "upernet": "Swin",
    "segformer": "MiT",
    "deeplabv3plus": "MobileNet",
    "fpn": "HRNet",
}
"""A family of encoders for each of these architectures; the others have a ResNet."""
PAIRS = [
    *((name, SMALLEST[WITH.get(name, "ResNet")]) for name in SMP_ARCHITECTURES),
    ("unet", SMALLEST["Swin"]),  # whose features have their channels last
]


def test_every_family_is_among_the_pairs() -> None:
    assert {encoder for _, encoder in PAIRS} == {*SMALLEST.values()}


def configured(architecture: str, encoder: str) -> Config:
    return compose(
        [
            f"model.architecture={architecture}",
            f"model.encoder={encoder}",
            *("model.encoder_weights=null", "model.encoder_depth=5", "model.decoder_width=4"),
            *(f"preprocessing.image_size={SIZE}", "training.precision=fp32", "training.ema_decay=0"),
            *("training.clip_norm=0", "training.scheduler.warmup_fraction=0", "runtime.device=cpu"),
        ]
    )


def batch() -> Batch:
    images = torch.randn(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.uint8)
    masks[:, :, 30:90, 40:80] = 1
    return Batch(images, torch.ones(2, 4), masks, torch.ones(2, dtype=torch.bool), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(("architecture", "encoder"), PAIRS)
def test_a_model_takes_a_step_and_predicts_as_its_program_does(architecture: str, encoder: str) -> None:
    torch.manual_seed(0)
    config = configured(architecture, encoder)
    learner = Learner(config.stages["joint"], config, None, 4)
    targets = encode_targets(batch(), learner.model.tasks)
    before = {name: weight.detach().clone() for name, weight in learner.model.named_parameters()}
    first = learner.accumulate(targets, 1).total
    learner.step(0)
    assert torch.isfinite(first)
    changed = [
        name for name, weight in learner.model.named_parameters() if not torch.equal(weight, before[name])
    ]
    assert {name.partition(".")[0] for name in changed} >= {"encoder", "decoder", "mask_head", "class_head"}

    model = learner.best_model.eval()
    with torch.no_grad():
        logits = model(targets.images, targets.presence)
    assert {name: part.shape for name, part in logits.items()} == {
        "segmentation": (2, 1, SIZE, SIZE),
        "classification": (2, 1),
    }
    exported = export_program(model, SIZE)
    if exported is not None:  # else prediction builds the model
        program = Program(exported, model.state_dict(), {"segmentation": 1, "classification": 1})
        outputs = program(targets.images, targets.presence)
        assert torch.allclose(outputs["segmentation"], logits["segmentation"], atol=1e-5)


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("family", ["HRNet", "EfficientNet", "ResNet"])
def test_an_encoder_that_is_cut_still_runs(family: str, depth: int) -> None:
    """Its unused parts are removed, except those that others need for the size of a map."""
    config = configured("unet", SMALLEST[family])
    config = config.model_copy(update={"model": config.model.model_copy(update={"encoder_depth": depth})})
    model = Learner(config.stages["joint"], config, None, 4).model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 4, 64, 64), torch.ones(1, 4))
    assert logits["segmentation"].shape == (1, 1, 64, 64)
