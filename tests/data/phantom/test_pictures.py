import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicewise.core.errors import DataError
from slicewise.data.phantom import pictures as module
from slicewise.data.phantom.pictures import (
    PictureName,
    missing_pictures,
    picture_names,
    render_picture,
    write_picture,
)

COUNT, SEED = 25, 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "set", COUNT, SEED)


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    for name in missing_pictures(folder, count, seed):
        write_picture(folder, seed, name)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_three_in_five_show_a_tumour(folder: Path) -> None:
    assert len(files(folder)) == COUNT
    assert len(files(folder / "yes")) == 15
    assert len(files(folder / "no")) == 10


def test_endings_modes_and_sizes_are_mixed() -> None:
    names = list(picture_names(400, SEED))
    endings = {name.file.rsplit(".", 1)[1] for name in names}
    assert endings == {"jpg", "JPG", "jpeg", "png"}
    assert len({name.file.lower() for name in names}) == 400


def test_every_file_opens_at_a_plausible_size(folder: Path) -> None:
    modes, sizes = set(), set()
    for path in files(folder):
        with Image.open(path) as picture:
            picture.load()
            modes.add(picture.mode)
            sizes.add(picture.size)
            assert min(picture.size) > 100
            assert max(picture.size) <= 800
            assert np.asarray(picture.convert("L")).std() > 15
    assert {"L", "RGB"} <= modes
    assert len(sizes) > 10


def test_a_larger_set_begins_with_the_smaller() -> None:
    assert list(picture_names(60, SEED))[:25] == list(picture_names(25, SEED))


def test_only_the_missing_are_rendered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in files(folder)}
    lost = files(folder)[5]
    lost.unlink()
    write_pictures(folder, COUNT, SEED)
    assert lost.read_bytes() == before[lost]
    monkeypatch.setattr(module, "render_picture", lambda *_: pytest.fail("rendered again"))
    write_pictures(folder, COUNT, SEED)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "mine.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"no/mine\.jpg; move"):
        write_pictures(tmp_path, 5, SEED)


def test_one_in_twenty_repeats_an_earlier_picture_of_the_same_label() -> None:
    names = list(picture_names(400, SEED))
    sources = [module._original(name.index, SEED) for name in names]
    repeated = [name for name, source in zip(names, sources, strict=True) if source != name.index]
    assert 0.02 < len(repeated) / len(names) < 0.1
    for name in repeated:
        assert names[module._original(name.index, SEED)].tumour == name.tumour


def test_a_repeated_picture_looks_the_same() -> None:
    names = list(picture_names(200, SEED))
    name = next(name for name in names if module._original(name.index, SEED) != name.index)
    original = names[module._original(name.index, SEED)]
    first, second = (small(render_picture(each, SEED)) for each in (name, original))
    assert np.corrcoef(first, second)[0, 1] > 0.99


def test_a_picture_shows_the_skull_around_the_brain() -> None:
    image = np.asarray(
        Image.open(io.BytesIO(render_picture(PictureName(1, False, "no/N1.png"), SEED))).convert("L")
    )
    middle = image[image.shape[0] // 2].astype(float)
    outer = np.flatnonzero(middle > 40)[[0, -1]]
    profile = middle[outer[0] : outer[0] + image.shape[1] // 7]
    assert profile.min() < 0.5 * profile[: len(profile) // 3].max()
    assert middle[: max(outer[0] - 3, 0)].max(initial=0) < 60


def small(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L").resize((64, 64)), dtype=float).ravel()
