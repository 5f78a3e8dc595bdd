"""Inputs found by fuzzing and code review, each once and small: crashes, hangs, bombs and escapes."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.fuzz import records, seeds

from slicewise.core.errors import CheckpointError, DataError, DownloadError, VolumeError, WorkspaceError
from slicewise.core.files import parse_json, read_json
from slicewise.core.hashing import HashCache
from slicewise.data.cases import CaseFiles, check_case
from slicewise.data.download.archive import unpack_zip
from slicewise.data.index import CaseIndex
from slicewise.data.store import SliceStore, StoredCase
from slicewise.demo.state import read_state
from slicewise.domain.keys import CaseKey
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.imaging.io.image2d import read_picture
from slicewise.imaging.io.nifti import read_nifti
from slicewise.models.checkpoint import STATE_FORMAT, load_checkpoint, save_checkpoint
from slicewise.models.safe_loading import load_safely
from slicewise.training.state import VERSION, load_state

KEY = CaseKey("s", "p", "c")


def nifti_with(**fields: Any) -> bytes:
    header = nib.Nifti1Header(seeds.niftis()[0][:348])
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock) + seeds.niftis()[0][348:]


def refuse_nifti(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(VolumeError) as caught:
        read_nifti(path)
    case = CaseFiles(KEY, "brats", ("flair",), (path,), (), None, "p")
    check_case(case)  # must not raise
    return str(caught.value)


def test_a_cut_header_of_the_second_version(tmp_path: Path) -> None:
    assert "ends inside the header" in refuse_nifti(tmp_path / "a.nii", seeds.niftis()[1][:400])


def test_voxels_that_the_file_cannot_hold_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    data = nifti_with(dim=[3, 512, 512, 512, 1, 1, 1, 1], datatype=64, bitpix=64)
    assert "holds at most" in refuse_nifti(tmp_path / "a.nii", data)
    assert "holds at most" in refuse_nifti(tmp_path / "a.nii.gz", gzip.compress(data))


@pytest.mark.parametrize("offset", [1e30, 1e9, -352.0, float("nan"), float("inf")])
def test_voxels_that_begin_nowhere(tmp_path: Path, offset: float) -> None:
    data = bytearray(seeds.niftis()[0])
    data[108:112] = struct.pack("<f", offset)
    refuse_nifti(tmp_path / "a.nii", bytes(data))


def test_voxels_too_large_for_a_body_would_make_infinite_tumours(tmp_path: Path) -> None:
    for length in (1e30, 1e-30):
        data = nifti_with(pixdim=[1, length, length, length, 1, 1, 1, 1], sform_code=0, qform_code=0)
        assert "affine" in refuse_nifti(tmp_path / "a.nii", data)


def test_a_gzip_of_two_members_with_a_broken_second_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    whole = gzip.compress(seeds.niftis()[0][:400], mtime=0) + gzip.compress(bytes(3000), mtime=0)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(whole[:-20] + b"\xff" * 12 + whole[-8:-4] + struct.pack("<I", 7))
    (problem,) = check_case(CaseFiles(KEY, "brats", ("flair",), (path,), (), None, "p"))
    assert "truncated or corrupt" in problem.what


def test_postscript_is_not_handed_to_an_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(seeds.grey()).convert("RGB").save(path, format="EPS")
    with pytest.raises(DataError, match="not a picture"):
        read_picture(path)


def bmp_of(width: int, height: int) -> bytes:
    data = bytearray(seeds.pictures()[9])
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_among_the_slices_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    tiff = bytearray(seeds.slices()[0])
    (directory,) = struct.unpack("<I", tiff[4:8])
    for entry in range(directory + 2, directory + 2 + 12 * 2, 12):  # width and height come first
        tiff[entry : entry + 12] = struct.pack(
            "<HHII", *struct.unpack("<H", tiff[entry : entry + 2]), 4, 1, 60_000
        )
    path = tmp_path / "1.tif"
    path.write_bytes(bytes(tiff))
    case = CaseFiles(KEY, "lgg", ("t1", "flair", "t1ce"), (path,), (path,), None, "p")
    assert "unreadable" in check_case(case)[0].what
    path.write_bytes(bmp_of(9000, 9000))
    with pytest.raises(DataError, match="scale it"):
        read_picture(path)


def write_zip(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", content)
    return path


def test_an_archive_that_swells_a_thousandfold(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as stream:
        for _ in range(300):
            stream.write(bytes(1 << 20))
    with pytest.raises(DownloadError, match="bomb"):
        unpack_zip(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    """As in a 10 MB file that unpacks to 281 TB (Fifield 2019): many directory entries, one body."""
    path = write_zip(tmp_path / "a.zip", bytes(range(256)) * 40, zipfile.ZIP_STORED)
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[start:end]
    copies = b"".join(entry[:46] + bytes([97 + number]) + entry[47:] for number in range(20))
    tail = bytearray(data[end:])
    tail[8:16] = struct.pack("<HHI", 20, 20, len(copies))
    path.write_bytes(data[:start] + copies + tail)
    with pytest.raises(DownloadError, match="overlap"):
        unpack_zip(path, tmp_path / "out")


def test_a_method_that_takes_any_amount_of_memory(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="method"):
        unpack_zip(write_zip(tmp_path / "a.zip", b"a" * 99, zipfile.ZIP_LZMA), tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "9" * 5000,
        "1e999",
        "NaN",
        "-Infinity",
        str(1 << 64),
        r'"\ud800"',
        r'"\u0000"',
        '"\xff"',
        "",
    ],
    ids=["deep", "digits", "huge", "nan", "infinity", "65 bits", "half", "nul", "latin", "empty"],
)
def test_json_that_no_record_of_ours_holds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WorkspaceError, match=r"a\.json is damaged"):
        read_json(path)


def test_a_surrogate_pair_is_a_character() -> None:
    assert parse_json(b'"\\ud83e\\udde0"') == "\N{BRAIN}"


@pytest.mark.parametrize("name", ["../../canary", "/etc/passwd", "a/../../b", "..", ".", ""])
def test_a_receipt_cannot_point_elsewhere(tmp_path: Path, name: str) -> None:
    for part in ("files", "shared"):
        value = json.loads(records.receipts()[0])
        table = value[part]["out"] if part == "files" else value[part]
        table[name] = table.pop(next(iter(table)))
        (tmp_path / RECEIPT_NAME).write_bytes(records.signed(json.dumps(value).encode()))
        assert Receipt.read(tmp_path) is None


@pytest.mark.parametrize(
    ("part", "value"),
    [("report", {"made_at": 5}), ("report", {"notes": [1]}), ("product", []), ("products", {"a": 1})],
)
def test_a_receipt_of_other_kinds_is_no_receipt(tmp_path: Path, part: str, value: Any) -> None:
    raw = json.loads(records.receipts()[0])
    (tmp_path / RECEIPT_NAME).write_text(json.dumps(raw))
    assert Receipt.read(tmp_path) is not None
    raw[part] = value
    (tmp_path / RECEIPT_NAME).write_bytes(records.signed(json.dumps(raw).encode()))
    assert Receipt.read(tmp_path) is None


def test_an_index_cannot_point_elsewhere(tmp_path: Path) -> None:
    value = json.loads(records.indices()[0])
    value["cases"][0]["images"] = {"../../../etc/passwd": 5}
    (tmp_path / "index.json").write_text(json.dumps(value))
    with pytest.raises(WorkspaceError, match="leads out"):
        CaseIndex.read(tmp_path / "index.json", tmp_path)


@pytest.mark.parametrize("wrong", [{"severity": "warnsng"}, {"severity": ["error"]}, {"what": 5}])
def test_an_index_with_a_problem_of_no_known_kind_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    value = json.loads(records.indices()[0])
    value["problems"] = [{"path": "a", "what": "odd", "severity": "warning", **wrong}]
    (tmp_path / "index.json").write_text(json.dumps(value))
    with pytest.raises(WorkspaceError, match="is not a case index of this version"):
        CaseIndex.read(tmp_path / "index.json", tmp_path)


def test_a_manifest_cannot_point_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="names no entry"):
        SliceStore(tmp_path).open("../elsewhere")


def test_an_entry_whose_numbers_do_not_fit(tmp_path: Path) -> None:
    value = json.loads(records.entries()[0])
    value["labels"] = [1 << 40, 0]
    (tmp_path / "entry.json").write_text(json.dumps(value))
    with pytest.raises(WorkspaceError, match="damaged"):
        StoredCase.open(tmp_path, "s/c")


def test_an_empty_array_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="cannot be read"):
        records.read_array(b"", tmp_path)


def test_odd_rows_of_the_table_of_hashes_are_forgotten() -> None:
    table: dict[str, Any] = {"/a": 5, "/b": [1], "/c": [1, 2, 3, "short"], "/d": [1, 2, 3, "0" * 64]}
    assert set(HashCache(table).table) == {"/d"}


@pytest.mark.parametrize(("field", "value"), [("pid", "1"), ("pid", -1), ("started", [])])
def test_a_demo_s_record_of_other_kinds_ends_no_process(tmp_path: Path, field: str, value: Any) -> None:
    demo = json.loads(records.demo_states()[0])
    demo["supervisor"] = {"pid": 1, "started": 1.0}
    (tmp_path / "demo.json").write_text(json.dumps(demo))
    assert read_state(tmp_path) is not None
    demo["supervisor"][field] = value
    (tmp_path / "demo.json").write_text(json.dumps(demo))
    assert read_state(tmp_path) is None


def test_a_download_s_note_that_is_a_number_marks_no_finished_download(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="not a finished download"):
        records.read_kaggle(b"2", tmp_path)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pth"
    torch.save({"format": "slicewise-checkpoint", "weights": Attack()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


def test_a_checkpoint_that_swells(tmp_path: Path) -> None:
    sound, path = seeds.states()[0], tmp_path / "a.pth"
    with (
        zipfile.ZipFile(io.BytesIO(sound)) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, bytes(1 << 22) if name.endswith("data/0") else source.read(name))
    with pytest.raises(CheckpointError, match="compressed"):
        load_safely(path)


@pytest.mark.parametrize("size", [60, 2_000_000])
def test_a_value_that_repeats_itself_a_billion_times(tmp_path: Path, size: int) -> None:
    laughs: Any = "ha"
    for _ in range(size if size < 100 else 9):
        laughs = [laughs] * (2 if size < 100 else 10)
    path = tmp_path / "a.pth"
    torch.save({"format": "slicewise-checkpoint", "version": laughs}, path)
    with pytest.raises(CheckpointError, match="nested too deeply or holds too many"):
        load_checkpoint(path)


def test_a_tensor_that_claims_more_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"weights": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(CheckpointError, match="no memory for its elements"):
        load_safely(path)


@pytest.mark.parametrize("missing", ["version", "fingerprint", "progress"])
def test_a_training_state_without_a_part(tmp_path: Path, missing: str) -> None:
    content = {"format": STATE_FORMAT, "version": VERSION, "fingerprint": "f", "progress": {"epoch": 1}}
    del content[missing]
    torch.save(content, tmp_path / "last.pth")
    if missing == "progress":
        with pytest.raises(CheckpointError, match="progress"):
            load_state(tmp_path / "last.pth", "f")
    else:
        assert load_state(tmp_path / "last.pth", "f") is None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A complete checkpoint of a small model."""
    from slicewise.config.compose import compose
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.models.multitask import MultitaskModel

    config = compose(["model={encoder:resnet18,encoder_depth:3,head_hidden:0,encoder_weights:null}"])
    weights = MultitaskModel(config.model, config.tasks).state_dict()
    return Checkpoint(
        weights, config.model, config.preprocessing, config.tasks, "joint", {}, "f", "x", True, "flair"
    )


def test_a_model_section_of_absurd_size_takes_no_memory(tmp_path: Path, sound: Any) -> None:
    model = sound.model.model_copy(update={"head_hidden": 10**9})
    save_checkpoint(tmp_path / "a.pth", replace(sound, model=model))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_checkpoint(tmp_path / "a.pth").build()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.double(), "float64"),
        (lambda tensor: tensor[:1].clone(), "in the model"),
        (lambda tensor: torch.full_like(tensor, float("nan")), "NaN"),
        (None, "is missing"),
    ],
    ids=["kind", "shape", "nan", "missing"],
)
def test_weights_that_are_not_the_network_s(tmp_path: Path, sound: Any, change: Any, message: str) -> None:
    name = "encoder.conv1.weight"
    weights = dict(sound.weights)
    if change is None:
        del weights[name]
    else:
        weights[name] = change(weights[name])
    save_checkpoint(tmp_path / "a.pth", replace(sound, weights=weights))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.pth").build()


def test_sound_weights_still_load(tmp_path: Path, sound: Any) -> None:
    save_checkpoint(tmp_path / "a.pth", sound)
    loaded = load_checkpoint(tmp_path / "a.pth").build().state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in sound.weights.items())


def test_numpy_headers_are_not_python(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 1, 4, 4), np.float16))
    with pytest.raises(WorkspaceError, match="cannot be read"):
        records.read_array(buffer.getvalue().replace(b"{", b"(", 1), tmp_path)
