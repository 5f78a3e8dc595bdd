import importlib.util

import numpy as np
import pytest
from scipy import ndimage
from tests.inference.pipelines import pipeline
from tests.inference.test_plausibility import head, volume

from slicewise.core.errors import DataError, UsageError
from slicewise.data.phantom.anatomy import load_atlas
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.volume import Volume
from slicewise.inference import skull_strip
from slicewise.inference.skull_strip import strip_skull
from slicewise.models.checkpoint import Checkpoint


def test_bone_and_scalp_go_and_the_brain_stays() -> None:
    pytest.importorskip("deepbet")
    brain = np.pad(load_atlas().t1[::2, ::2, ::2].astype(np.float32), 12)
    outside = 2 * ndimage.distance_transform_edt(brain == 0)
    layers = [(outside > 0) & (outside <= 2), (outside > 2) & (outside <= 7), (outside > 7) & (outside <= 14)]
    raw = np.select(layers, [60.0, 12.0, 230.0], brain)
    raw += np.random.default_rng(0).normal(0, 4, raw.shape).clip(0)
    images = np.stack([raw, np.zeros_like(raw), np.zeros_like(raw), raw[::-1]]).astype(np.float32)
    presence = (True, False, False, True)
    case = Volume(CaseKey("i", "p", "p"), images, presence, None, None, (2.0, 2.0, 2.0), None)

    stripped = strip_skull(case)
    kept = stripped.images[0] != 0
    dice = 2 * np.count_nonzero(kept & (brain > 0)) / (np.count_nonzero(kept) + np.count_nonzero(brain))
    assert dice > 0.93
    np.testing.assert_array_equal(stripped.images[0][kept], images[0][kept])
    assert not stripped.images[MODALITIES.index("flair")][~kept].any()
    assert stripped.remarks[-1].startswith("skull-stripped by deepbet ")
    assert " on t1: a brain of 2,0" in stripped.remarks[-1]


def test_a_picture_has_no_skull_to_strip() -> None:
    case = Volume(CaseKey("i", "p", "p"), np.ones((4, 1, 32, 32)), (True,) * 4, None, None, (1, 1, 1), None)
    with pytest.raises(DataError, match="is for volumes"):
        strip_skull(case)


def test_without_the_package_the_command_to_install_it_is_told(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    skull_strip._load.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(skull_strip, "version", lambda _: "0")
    with pytest.raises(UsageError, match=r'pip install "slicewise\[raw\]"'):
        pipeline(checkpoint).predict(volume({"t1": head(skull=True)}), skull_strip=True)
