import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from slicewise.core.errors import DataError
from slicewise.data.phantom import anatomy as module
from slicewise.data.phantom.anatomy import MIDLINE_COL, load_atlas


def test_the_maps_are_read_once() -> None:
    assert load_atlas() is load_atlas()


def test_rows_run_towards_the_back_and_slices_upwards() -> None:
    depth = load_atlas().depth
    inside = np.argwhere(depth > 0) * 2
    cerebellum = load_atlas().grey[20].astype(int)
    assert cerebellum[:, MIDLINE_COL - 30 : MIDLINE_COL + 30].sum(axis=1).argmax() > 117
    assert inside[:, 0].max() > 140
    assert inside[:, 0].min() < 10


def test_the_brain_is_symmetric_about_the_midline() -> None:
    depth = load_atlas().depth
    columns = np.argwhere(depth > 0)[:, 2]
    assert abs((columns.min() + columns.max()) / 2 * 2 - MIDLINE_COL) <= 2


def test_distances_are_signed_millimetres() -> None:
    atlas = load_atlas()
    assert atlas.depth.min() < -20
    assert 30 < atlas.depth.max() < 70
    assert (atlas.head >= atlas.depth - 6).mean() > 0.99


def test_ventricles_have_the_volume_of_ventricles() -> None:
    millilitres = (load_atlas().ventricle < 0).sum() * 8 / 1000
    assert 8 < millilitres < 45


def test_neither_nilearn_nor_torch_is_imported() -> None:
    code = (
        "import sys; from slicewise.data.phantom.anatomy import load_atlas; load_atlas(); "
        "print([n for n in ('nilearn', 'torch', 'sklearn', 'pandas') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_missing_map_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE", "no_such_{}.nii.gz")
    with pytest.raises(DataError, match="pip install"):
        module._read("t1")


def test_maps_are_sampled_as_each_alone(rng: np.random.Generator) -> None:
    atlas = load_atlas()
    for maps, parts in (
        (atlas.signals, (atlas.t1 / 255, atlas.grey / 255, atlas.white / 255)),
        (atlas.distances, (atlas.depth, atlas.head, atlas.ventricle)),
    ):
        place = (rng.uniform(-3, 3 + np.array(parts[0].shape), (2000, 3)).T).astype(np.float32)
        for found, part in zip(maps.at(place), parts, strict=True):
            expected = ndimage.map_coordinates(part.astype(np.float32), place, order=1, mode="nearest")
            np.testing.assert_allclose(found, expected, atol=2e-3)  # positions are exact to 0.002 mm


def test_distances_are_those_of_scipy(rng: np.random.Generator) -> None:
    inside = ndimage.binary_dilation(rng.random((9, 30, 31)) < 0.002, iterations=4)
    inside[4] = True
    expected = ndimage.distance_transform_edt(inside)
    np.testing.assert_allclose(module._distance(inside), expected, atol=1e-5)
