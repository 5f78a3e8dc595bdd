"""Recipes of other channels, from arrays to a prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slicewise.config.compose import compose
from slicewise.core.errors import CheckpointError, ConfigError, VolumeError
from slicewise.data.loading.augment import apply_augmentation, draw_augmentation
from slicewise.data.loading.dataset import SliceDataset
from slicewise.data.store import SliceStore, entry_id
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.slicing import extract_slices
from slicewise.imaging.volume import UNIT_SPACING, Volume, picture_volume
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.models.program import export_program

SIZE = 64


def disc(channels: tuple[str, ...], seed: int = 0) -> Volume:
    """A picture with a bright lesion on a disc of tissue."""
    rows, cols = np.mgrid[-1:1:80j, -1:1:90j]
    tissue = rows**2 + cols**2 < 0.8
    lesion = (rows - 0.2) ** 2 + cols**2 < 0.05
    noise = np.random.default_rng(seed).integers(0, 30, (len(channels), 1, *rows.shape))
    images: NDArray[np.uint8] = ((80 + noise + 80 * lesion) * tissue).astype(np.uint8)
    key = CaseKey("discs", f"disc{seed}", f"disc{seed}")
    mask = lesion[None].astype(np.uint8)
    presence = (True,) * len(channels)
    return Volume(key, images, presence, mask, None, UNIT_SPACING, None, channels=channels)


@pytest.mark.parametrize("channels", [("red", "green", "blue"), ("grey",), ("flair", "t1"), (*"abcdef",)])
def test_slices_are_stored_trained_on_saved_and_predicted(tmp_path: Path, channels: tuple[str, ...]) -> None:
    config = compose(
        [
            f"preprocessing.channels=[{','.join(channels)}]",
            f"preprocessing.image_size={SIZE}",
            "model.encoder=resnet18",
            "model.encoder_weights=null",
            "data.sources.pictures=null",
        ]
    )
    store = SliceStore(tmp_path / "store")
    stored = []
    for seed in range(3):
        volume = disc(channels, seed)
        entry = entry_id(volume.key, str(seed), config.preprocessing)
        store.write(entry, extract_slices(volume, config.preprocessing), volume.key.case)
        stored.append(store.open(entry))
    batch = SliceDataset({"discs": stored}).gather(np.arange(3))
    assert batch.images.shape == (3, len(channels), SIZE, SIZE)
    changes = draw_augmentation(config.training.augmentation, 0.5, batch.presence, seed=1)
    batch = apply_augmentation(batch, changes)

    torch.manual_seed(0)
    model = MultitaskModel(config.model, config.tasks, len(channels))
    output = model.train()(batch.images, batch.presence)
    (output["segmentation"].mean() + output["classification"].mean()).backward()
    assert model.slot_tokens.values.shape == (1, len(channels), 1, 1)

    path = tmp_path / "best_model.pth"
    program = export_program(model, SIZE)
    assert program is not None
    save_checkpoint(
        path,
        Checkpoint(
            model.state_dict(), config.model, config.preprocessing, config.tasks, "joint", {}, "a" * 64,
            "discs", False, "flair", program=program,
        ),
    )  # fmt: skip
    checkpoint = load_checkpoint(path)
    assert checkpoint.preprocessing.channels == channels
    with torch.inference_mode():
        images = torch.from_numpy(stored[0].images.astype(np.float32))
        whole = checkpoint.build()(images, torch.ones(1, len(channels)))
    prediction = Pipeline([checkpoint], config.evaluation, device="cpu").predict(disc(channels, 0))
    inside = np.any(stored[0].images != 0, axis=1)
    np.testing.assert_allclose(
        prediction.mask_probability[:, 0], whole["segmentation"].sigmoid()[:, 0].numpy() * inside, atol=1e-5
    )


def test_channels_are_found_by_name_and_the_others_are_empty() -> None:
    volume = disc(("t1", "flair"))
    chosen = volume.select(("flair", "grey", "t1"))
    assert chosen.presence == (True, False, True)
    assert np.array_equal(chosen.images[0], volume.images[1])
    assert not chosen.images[1].any()
    assert chosen.select(("flair", "grey", "t1")) is chosen


def test_a_case_with_none_of_the_channels_is_refused() -> None:
    with pytest.raises(VolumeError, match=r"images are grey, and the recipe's channels t1, t1ce"):
        picture_volume(CaseKey("a", "b", "c"), np.ones((8, 8), np.uint8), "grey").select(MODALITIES)


@pytest.mark.parametrize("channels", ["[t1,t1]", "[]", "[T1]"])
def test_channels_need_different_names(channels: str) -> None:
    with pytest.raises(ConfigError, match=r"preprocessing"):
        compose([f"preprocessing.channels={channels}"])


def test_pictures_fill_a_channel_of_the_recipe() -> None:
    with pytest.raises(ConfigError, match=r"slot=flair is none of preprocessing\.channels \(grey\)"):
        compose(["preprocessing.channels=[grey]"])
    assert compose(["preprocessing.channels=[grey]", "data.sources.pictures.slot=grey"]).data.slot == "grey"


def test_a_checkpoint_of_other_channels_is_no_start(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best_model.pth", checkpoint)
    with pytest.raises(CheckpointError, match=r"set preprocessing\.channels=\[t1,t1ce,t2,flair\]"):
        load_checkpoint(tmp_path / "best_model.pth", checkpoint.model, ("flair", "t1", "t1ce", "t2"))
