from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.inference.pipelines import pipeline
from torch import Tensor

from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.uncertainty import estimate_spread
from slicewise.models.checkpoint import Checkpoint


def constant(mask: float, probability: float) -> "object":
    """A model with the same logits everywhere."""

    def forward(images: Tensor, _: Tensor) -> dict[str, Tensor]:
        logits = torch.full_like(images[:, :1], float(np.log(mask / (1 - mask))))
        return {
            "segmentation": logits,
            "classification": torch.full((len(images), 1), float(np.log(probability / (1 - probability)))),
        }

    return forward


def ensemble(checkpoint: Checkpoint, *outputs: tuple[float, float]) -> Pipeline:
    found = pipeline(*[checkpoint] * len(outputs))
    found._members = [constant(*each) for each in outputs]  # type: ignore[misc]
    return found


def test_the_spread_of_an_ensemble_is_that_of_its_models(checkpoint: Checkpoint, volume_path: Path) -> None:
    found = ensemble(checkpoint, (0.2, 0.3), (0.8, 0.7))
    prediction = found.predict(volume_path, channels="flair")
    spread = estimate_spread(found, prediction)
    assert spread.num_passes == 8, "a model alone has four passes"
    inside = np.any(prediction.slices.images != 0, axis=1, keepdims=True)
    assert spread.mask_deviation is not None
    centre = spread.mask_deviation[..., 28:36, 28:36][inside[..., 28:36, 28:36]]
    np.testing.assert_allclose(centre, 0.3, atol=0.05)
    assert sorted(spread.probabilities) == pytest.approx([0.3] * 4 + [0.7] * 4, abs=0.01)
    assert spread.probability_deviation == pytest.approx(0.2, abs=0.01)
    assert min(spread.volumes_ml) == 0 < max(spread.volumes_ml)
    assert spread.dice is not None
    assert 0.1 < spread.dice < 0.5


def test_models_that_agree_have_no_spread(checkpoint: Checkpoint, volume_path: Path) -> None:
    found = ensemble(checkpoint, (0.8, 0.7), (0.8, 0.7))
    flipped = pipeline(checkpoint, checkpoint, inference=InferenceSettings(flips=True))
    flipped._members = found._members
    prediction = flipped.predict(volume_path, channels="flair")
    spread = estimate_spread(flipped, prediction)
    assert spread.num_passes == 4
    assert spread.mask_deviation is not None
    assert spread.mask_deviation.max() == pytest.approx(0, abs=1e-3)
    assert (spread.dice, spread.probability_deviation) == pytest.approx((1, 0), abs=1e-6)


def test_the_prediction_stays_and_the_map_lies_on_its_grid(
    checkpoint: Checkpoint, volume_path: Path, tmp_path: Path
) -> None:
    found = pipeline(checkpoint)
    plain = found.predict(volume_path, channels="flair")
    prediction = replace(plain, spread=estimate_spread(found, plain))
    assert np.array_equal(prediction.mask_probability, plain.mask_probability)
    assert plain.save_uncertainty(tmp_path) is None
    name = prediction.save_uncertainty(tmp_path)
    assert name == f"{prediction.case}_uncertainty.nii.gz"
    image, source = nib.load(tmp_path / name), nib.load(volume_path)
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine)
    values = np.asarray(image.dataobj)
    assert 0 < values.max() <= 0.5
    row = prediction.to_row(uncertainty=name).to_json()
    assert row["passes"] == 4
    assert row["probability_deviation"] > 0
