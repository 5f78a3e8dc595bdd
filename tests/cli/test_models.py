import json
from types import SimpleNamespace

import pytest

from slicewise.cli.main import main
from slicewise.config.schema.model import ARCHITECTURES
from slicewise.models import catalogue

KEYS = ("model.encoder=resnet18", "model.encoder_weights=null", "model.encoder_depth=5")


def test_the_list_has_every_architecture_and_family_with_sizes_and_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smallest = {family: names[:1] for family, names in catalogue.ENCODERS.items()}
    smallest["EfficientNet"] = ("tu-tf_efficientnet_lite0",)
    monkeypatch.setattr(catalogue, "ENCODERS", smallest)
    assert main(["models", "--json", *KEYS]) == 0
    models = json.loads(capsys.readouterr().out)
    by_name = {model["architecture"]: model for model in models if model["encoder"] in ("resnet18", None)}
    assert {*by_name} == {*ARCHITECTURES.names()}
    unet = by_name["unet"]
    assert 11e6 < unet["parameters"] < 20e6
    assert (unet["library"], unet["family"], unet["depth"]) == ("segmentation_models_pytorch", "ResNet", 5)
    assert (by_name["dynunet"]["library"], by_name["dynunet"]["weights"]) == ("MONAI", "none")
    assert by_name["pspnet"]["depth"] == 3
    assert {model["family"] for model in models} == {
        *("ResNet", "EfficientNet", "MobileNet", "HRNet", "MiT", "Swin", None),
    }
    lite = next(model for model in models if model["encoder"] == "tu-tf_efficientnet_lite0")
    assert lite["weights"] == "installed"
    assert all(model["problem"] is None for model in models)


def test_what_cannot_be_built_is_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "ENCODERS", {"MiT": ("mit_b0",)})
    monkeypatch.setattr(catalogue, "ARCHITECTURES", SimpleNamespace(names=lambda: ("linknet", "fpn")))
    assert main(["models", "model.encoder=mit_b0", *KEYS[1:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["architecture", "encoder", "depth"]
    line = next(line for line in lines if line.startswith("linknet"))
    assert "cannot be built: model.architecture=linknet with model.encoder=mit_b0" in line
