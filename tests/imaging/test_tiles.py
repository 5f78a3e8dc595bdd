"""A picture cut into tiles, and its masks put together again."""

from dataclasses import replace

import numpy as np
import pytest

from slicewise.config.compose import compose
from slicewise.core.errors import VolumeError
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import Geometry, extract_slices, restore_to_volume
from slicewise.imaging.volume import Volume, picture_volume


def test_tiles_cover_a_picture_and_are_put_together_again() -> None:
    rng = np.random.default_rng(0)
    pixels, mask = rng.integers(1, 255, (150, 70, 3), np.uint8), rng.random((1, 150, 70)) < 0.3
    volume = replace(picture_volume(CaseKey("s", "p", "c"), pixels, "red"), mask=mask.astype(np.uint8))
    settings = compose(
        ["data=shapes", "recipes=binary", "preprocessing.fit=tile", "preprocessing.image_size=64"]
    ).preprocessing
    sliced = extract_slices(volume, settings)
    assert sliced.images.shape == (6, 3, 64, 64)
    assert sliced.indices.tolist() == [*range(6)]
    assert np.count_nonzero(sliced.masks) == np.count_nonzero(mask), "each pixel lies in one tile"
    geometry = Geometry.from_json(sliced.geometry.to_json(), sliced.indices.tolist())
    np.testing.assert_array_equal(restore_to_volume(sliced.masks.astype(np.bool_), geometry), mask)


def test_volumes_are_not_cut_into_tiles() -> None:
    images = np.ones((1, 2, 70, 70), np.uint8)
    volume = Volume(
        CaseKey("s", "p", "c"), images, (True,), None, None, (1.0, 1.0, 1.0), None, channels=("grey",)
    )
    settings = compose(["data=shapes", "recipes=binary"]).preprocessing
    tiled = settings.model_copy(update={"fit": "tile", "channels": ("grey",)})
    with pytest.raises(VolumeError, match=r"fit=tile is for pictures.*2 slices"):
        extract_slices(volume, tiled)
