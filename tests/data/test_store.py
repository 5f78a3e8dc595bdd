import json
from pathlib import Path

import numpy as np
import pytest
from tests.imaging.ellipsoid import KEY, images, settings, tumour, volume

from slicewise.core.errors import WorkspaceError
from slicewise.data.store import SliceStore, entry_id
from slicewise.imaging.slicing import SlicedCase, extract_slices

ENTRY = entry_id(KEY, "digest of the files", settings())


@pytest.fixture(scope="module")
def sliced() -> SlicedCase:
    mask = tumour()
    mask[1, 36, 30] = 1  # where there is hardly any brain
    return extract_slices(volume(mask=mask), settings())


@pytest.fixture
def store(tmp_path: Path, sliced: SlicedCase) -> SliceStore:
    store = SliceStore(tmp_path / "slices")
    store.write(ENTRY, sliced, "family")
    return store


def test_what_was_written_is_read(store: SliceStore, sliced: SlicedCase) -> None:
    stored = store.open(ENTRY)
    assert ENTRY in store
    assert stored.included.tolist() == [False] + [True] * (len(stored.included) - 1)
    for name in ("images", "masks", "labels", "indices", "included", "train"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(sliced, name))
        assert getattr(stored, name).dtype == getattr(sliced, name).dtype
    for name in ("key", "presence", "has_mask", "pixel_mm", "slice_mm", "geometry"):
        assert getattr(stored, name) == getattr(sliced, name)
    assert (stored.group, stored.image_size) == ("family", 64)
    store.verify(ENTRY)


def test_large_arrays_are_mapped_and_none_can_be_changed(tmp_path: Path) -> None:
    store = SliceStore(tmp_path)
    store.write(ENTRY, extract_slices(volume(), settings(image_size=128)), "g")
    stored = store.open(ENTRY)
    assert isinstance(stored.images, np.memmap)
    for array in (stored.images, stored.masks):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_only_the_present_modalities_are_stored(tmp_path: Path) -> None:
    some = images()
    some[[0, 2]] = 0
    case = extract_slices(volume(images=some, presence=(False, True, False, True)), settings())
    store = SliceStore(tmp_path)
    store.write(ENTRY, case, "g")
    stored = store.open(ENTRY)
    assert stored.stored_images.shape == (len(case.indices), 2, 64, 64)
    np.testing.assert_array_equal(stored.images, case.images)
    np.testing.assert_array_equal(stored.read([3, 1]), case.images[[3, 1]])


def test_the_entry_says_what_it_is_to_a_reader(store: SliceStore) -> None:
    folder = store.folder(ENTRY)
    assert folder.parent.name == "toy"
    assert folder.name.startswith("c1-")
    value = json.loads((folder / "entry.json").read_text())
    assert (value["source"], value["patient"], value["case"]) == ("toy", "p1", "c1")
    assert sorted(path.name for path in folder.iterdir()) == ["entry.json", "images.npy", "masks.npy"]


@pytest.mark.parametrize(
    "changes", [{"image_size": 96}, {"clip_percentiles": (1.0, 99.0)}, {"max_train_slices": 10}]
)
def test_another_preprocessing_is_another_entry(changes: dict[str, object]) -> None:
    assert entry_id(KEY, "digest of the files", settings(**changes)) != ENTRY


def test_other_files_or_another_case_are_another_entry() -> None:
    assert entry_id(KEY, "other files", settings()) != ENTRY
    assert entry_id(type(KEY)("toy", "p2", "c1"), "digest of the files", settings()) != ENTRY


def test_a_missing_entry_is_named(store: SliceStore) -> None:
    assert "toy/nobody-000000000000" not in store
    with pytest.raises(WorkspaceError, match=r"nobody-000000000000 is incomplete"):
        store.open("toy/nobody-000000000000")


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "entry.json"])
def test_a_removed_file_is_noticed_and_the_entry_written_again(
    store: SliceStore, sliced: SlicedCase, name: str
) -> None:
    (store.folder(ENTRY) / name).unlink()
    assert ENTRY not in store
    with pytest.raises(WorkspaceError, match=name):
        store.open(ENTRY)
    store.write(ENTRY, sliced, "family")
    store.verify(ENTRY)


def test_a_truncated_array_is_noticed(store: SliceStore) -> None:
    path = store.folder(ENTRY) / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert ENTRY not in store
    with pytest.raises(WorkspaceError, match=r"images\.npy has .* bytes"):
        store.open(ENTRY)


def test_a_changed_bit_is_found_by_verify(store: SliceStore) -> None:
    path = store.folder(ENTRY) / "masks.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert ENTRY in store
    with pytest.raises(WorkspaceError, match=r"masks\.npy has changed"):
        store.verify(ENTRY)


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 999}', "[]"])
def test_a_damaged_description_is_named(store: SliceStore, text: str) -> None:
    (store.folder(ENTRY) / "entry.json").write_text(text)
    assert ENTRY not in store
    with pytest.raises(WorkspaceError, match=r"c1-.* is damaged"):
        store.open(ENTRY)


def test_an_edited_description_is_noticed_and_one_without_digest_is_from_before(store: SliceStore) -> None:
    path = store.folder(ENTRY) / "entry.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "group": "another"}))
    assert ENTRY not in store
    del described["digest"]
    path.write_text(json.dumps(described))
    assert ENTRY in store


def test_a_file_without_its_sealed_size_is_damage(store: SliceStore) -> None:
    path = store.folder(ENTRY) / "entry.json"
    described = json.loads(path.read_text())
    del described["digest"], described["files"]["masks.npy"]["bytes"]
    path.write_text(json.dumps(described))
    with pytest.raises(WorkspaceError, match=r"is damaged \(KeyError\('bytes'\)\)"):
        store.open(ENTRY)


def test_a_file_stands_for_its_whole_entry_when_that_is_discarded(store: SliceStore) -> None:
    store.discard(store.folder(ENTRY) / "masks.npy")
    assert not store.folder(ENTRY).exists()
    store.discard(store.folder(ENTRY))


def test_a_sound_entry_is_not_written_twice(store: SliceStore, sliced: SlicedCase) -> None:
    before = (store.folder(ENTRY) / "images.npy").stat()
    store.write(ENTRY, sliced, "family")
    after = (store.folder(ENTRY) / "images.npy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_killed_run_leaves_nothing_that_counts(store: SliceStore) -> None:
    partial = store.root / "toy" / ".partial-c2-1234-ab"
    partial.mkdir()
    (partial / "images.npy").write_bytes(b"half")
    store.sweep()
    assert not partial.exists()
    store.verify(ENTRY)


def test_a_failed_write_leaves_no_trace(tmp_path: Path, sliced: SlicedCase) -> None:
    blocked = tmp_path / "toy"
    blocked.write_text("a file where the folder belongs")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        SliceStore(tmp_path).write(ENTRY, sliced, "g")
    assert list(tmp_path.iterdir()) == [blocked]
