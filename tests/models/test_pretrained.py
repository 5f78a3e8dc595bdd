"""ImageNet weights that are installed with the project: the right ones, each in its place."""

from pathlib import Path

import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from tests.fixtures.small_model import TASKS
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.core.errors import ConfigError
from slicewise.models.adapters import smp as pretrained
from slicewise.models.adapters.smp import PACKAGED_WEIGHTS, find_packaged_weights, load_packaged_weights
from slicewise.models.multitask import MultitaskModel

LITE0 = "tu-tf_efficientnet_lite0"
DAISY = 985


def settings(model: Model, **keys: object) -> Model:
    begin: dict[str, object] = {"encoder": LITE0, "encoder_weights": "imagenet", "encoder_depth": 5}
    return Model.model_validate({**model.model_dump(), **begin, **keys})


def file_of(model: Model) -> Path:
    path = find_packaged_weights(settings(model))
    assert path is not None
    return path


def stored(model: Model) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(file_of(model), weights_only=True)
    return weights


def test_the_weights_tell_a_daisy_and_the_order_of_tensors_is_that_of_the_file(model: Model) -> None:
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(dict(zip(net.state_dict(), stored(model).values(), strict=True)))
    flower = torch.from_numpy(load_sample_image("flower.jpg")[:, 100:527].copy())
    image = nn.functional.interpolate(
        flower.permute(2, 0, 1)[None].float(), size=(224, 224), mode="bilinear", antialias=True
    )

    with torch.no_grad():
        logits = net((image - 127) / 128)

    assert int(logits.argmax()) == DAISY


def test_a_grey_image_in_all_slots_meets_the_filters_that_imagenet_taught(model: Model) -> None:
    ours = MultitaskModel(settings(model), TASKS).eval().encoder
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    # The file goes on with the classifier, which a network of features lacks; load_state_dict misses nothing.
    reference.load_state_dict(dict(zip(reference.state_dict(), stored(model).values(), strict=False)))
    grey = torch.randn(1, 1, 64, 64)

    with torch.no_grad():
        # Four slots, each divided by the root of four, see the image twice as strong as three colours do.
        answers = ours(grey.expand(-1, 4, -1, -1) / 2)[1:]
        expected = reference(grey.expand(-1, 3, -1, -1))

    assert len(answers) == 5
    for answer, right in zip(answers, expected, strict=True):
        torch.testing.assert_close(answer, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("slot", range(4))
def test_every_modality_alone_is_seen_alike(model: Model, slot: int) -> None:
    encoder = MultitaskModel(settings(model, encoder_depth=3), TASKS).encoder
    first = next(layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d))
    image = torch.randn(1, 1, 32, 32)
    alone, other = torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)
    alone[:, slot], other[:, 0] = image[:, 0], image[:, 0]

    torch.testing.assert_close(first(alone), first(other))


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_a_shallow_encoder_takes_the_first_stages(model: Model, depth: int) -> None:
    shallow = MultitaskModel(settings(model, encoder_depth=depth), TASKS).encoder.state_dict()
    whole = MultitaskModel(settings(model), TASKS).encoder.state_dict()

    assert set(shallow) <= set(whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in shallow.items())


def test_without_the_key_the_weights_are_random_and_training_moves_the_shipped_ones(model: Model) -> None:
    random, shipped = (
        MultitaskModel(settings(model, encoder_weights=key, encoder_depth=3), TASKS)
        for key in (None, "imagenet")
    )
    before = {name: tensor.clone() for name, tensor in shipped.encoder.state_dict().items()}

    _one_step(shipped)

    assert any(not torch.equal(tensor, before[name]) for name, tensor in random.encoder.state_dict().items())
    moved = [name for name, tensor in shipped.encoder.named_parameters() if torch.equal(tensor, before[name])]
    assert moved == []


def test_weights_of_another_encoder_are_refused(model: Model, tmp_path: Path) -> None:
    weights = stored(model)
    weights["_blocks.3._project_conv.weight"] = torch.zeros(3, 3, 1, 1)
    torch.save(weights, tmp_path / "other.pth")
    encoder = MultitaskModel(settings(model, encoder_weights=None), TASKS).encoder

    with pytest.raises(ConfigError, match=r"other\.pth holds the weights of another encoder.*conv_pwl"):
        load_packaged_weights(encoder, tmp_path / "other.pth")


def test_a_file_that_is_too_short_is_refused(model: Model, tmp_path: Path) -> None:
    first = dict(list(stored(model).items())[:30])
    torch.save(first, tmp_path / "short.pth")
    encoder = MultitaskModel(settings(model, encoder_weights=None), TASKS).encoder

    with pytest.raises(ConfigError, match=r"short\.pth holds the weights of another encoder"):
        load_packaged_weights(encoder, tmp_path / "short.pth")


def test_only_imagenet_is_installed_and_only_where_its_package_is(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_packaged_weights(settings(model, encoder_weights="noisy-student")) is None
    assert find_packaged_weights(settings(model, encoder="resnet18")) is None

    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)

    assert find_packaged_weights(settings(model)) is None


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_weights_that_nothing_offers_are_named_with_a_way_out(
    model: Model, encoder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(
        ConfigError,
        match=rf"encoder_weights=.*{encoder} cannot be downloaded.*{next(iter(PACKAGED_WEIGHTS))}",
    ):
        MultitaskModel(settings(model, encoder=encoder), TASKS)


def _one_step(net: MultitaskModel) -> None:
    optimizer = torch.optim.AdamW(net.parameters())
    prediction = net.train()(torch.randn(2, 4, 64, 64), torch.ones(2, 4))
    (prediction["segmentation"].square().mean() + prediction["classification"].mean()).backward()
    optimizer.step()
