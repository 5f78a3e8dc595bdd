"""The readers of untrusted bytes, each as a function of bytes and a folder of its own.

A target must return or raise a SliceWiseError with a message. Anything else is a finding.
"""

import gzip
import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.fuzz import records, seeds
from tests.fuzz.watch import CANARY, confined

from slicewise.core.errors import DataError, SliceWiseError
from slicewise.data.cases import CaseFiles
from slicewise.domain.keys import CaseKey

KEY = CaseKey("s", "p", "c")


@dataclass(frozen=True)
class Target:
    """`reads` gets untrusted bytes and a folder; `seeds` are valid inputs to start from."""

    name: str
    reads: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]
    what: str

    def check(self, data: bytes, box: Path) -> bool:
        """Read once in a fresh folder below `box`; return whether the input was accepted.

        Raises:
            Exception: a finding.
        """
        (box / CANARY).write_bytes(b"must not be read")
        folder = box / "inside"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            with confined(folder):
                self.reads(data, folder)
        except SliceWiseError as error:
            assert str(error), "an error without a message"  # noqa: PT017
            return False
        finally:
            left = sorted(path.name for path in box.iterdir())
            assert left == [CANARY, "inside"], left
        return True


def _read_nifti(data: bytes, folder: Path) -> None:
    from slicewise.data.cases import check_case
    from slicewise.imaging.io.nifti import write_nifti
    from slicewise.imaging.volume import read_nifti_case

    path = folder / "a.nii.gz"
    path.write_bytes(data)
    check_case(CaseFiles(KEY, "brats", ("flair",), (path,), (path,), None, "p"))
    volume = read_nifti_case(KEY, ("flair",), (path,), None)
    assert volume.images.shape[1:] == volume.shape
    assert volume.orientation is not None
    write_nifti(folder / "mask.nii.gz", (volume.images[3] > 0).astype("uint8"), volume.orientation)
    read_nifti_case(KEY, ("flair",), (path,), path)


def _read_packed_nifti(data: bytes, folder: Path) -> None:
    _read_nifti(gzip.compress(data, 1), folder)


def _read_picture(data: bytes, folder: Path) -> None:
    from slicewise.imaging.io.image2d import read_picture

    path = folder / "a.png"
    path.write_bytes(data)
    assert read_picture(path).pixels.ndim == 2


def _read_slices(data: bytes, folder: Path) -> None:
    from slicewise.data.cases import check_case

    image, mask = folder / "1.tif", folder / "1_mask.tif"
    case = CaseFiles(KEY, "lgg", ("t1", "flair", "t1ce"), (image,), (mask,), None, "p")
    refusals = []
    for path in (image, mask):
        image.write_bytes(seeds.slices()[0])
        mask.write_bytes(seeds.slices()[1])
        path.write_bytes(data)
        check_case(case)
        try:
            case.read()
        except SliceWiseError as error:
            refusals.append(error)
    if len(refusals) == 2:
        raise refusals[0]


def _read_dicom(data: bytes, folder: Path) -> None:
    """Read a file of a series, or a DICOMDIR; write the mask of what is accepted."""
    from slicewise.data.cases import read_case
    from slicewise.data.dicom_cases import DicomCase
    from slicewise.data.inputs import DefaultModalities, find_inputs
    from slicewise.domain.classes import TUMOUR
    from slicewise.inference.dicom_seg import encode_dicom_seg

    (folder / "a.dcm").write_bytes(data)
    (folder / "DICOMDIR").write_bytes(data)
    find_inputs([folder / "DICOMDIR"], DefaultModalities("t1", "t1"))
    cases, problems = find_inputs([folder], DefaultModalities("t1", "t1"))
    if not cases:
        raise DataError(f"{len(problems)} problems")
    for case in cases:
        volume = read_case(case).volume
        assert isinstance(case, DicomCase)
        encode_dicom_seg(case, volume.images[:1] > 0, TUMOUR, "")


def _unpack(data: bytes, folder: Path) -> None:
    from slicewise.data.download.archive import unpack_zip

    path = folder / "a.zip"
    path.write_bytes(data)
    unpack_zip(path, folder / "out")


def _compose_file(data: bytes, folder: Path) -> None:
    from slicewise.config.compose import compose
    from slicewise.config.export import to_yaml

    root = Path(__file__).resolve().parents[2] / "configs"
    shutil.copytree(root, folder / "configs", ignore=shutil.ignore_patterns("final"))
    (folder / "configs" / "recipes" / "tumour.yaml").write_bytes(data)
    to_yaml(compose((), folder / "configs").model_dump(mode="json"))


def _compose_overrides(data: bytes, folder: Path) -> None:
    from slicewise.config.compose import compose
    from slicewise.config.export import to_yaml

    words = data.decode(errors="surrogateescape").split("\n")[:8]
    to_yaml(compose(words).model_dump(mode="json"))


def _load_checkpoint(data: bytes, folder: Path) -> None:
    from slicewise.models.checkpoint import load_checkpoint
    from slicewise.training.state import load_state

    path = folder / "best_model.pth"
    path.write_bytes(data)
    try:
        load_state(path, "f")
    except SliceWiseError:
        load_checkpoint(path).build()


def _load_pickle(data: bytes, folder: Path) -> None:
    """Read the pickle of a checkpoint in a valid container with two small storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/byteorder", b"little")
        archive.writestr("a/data/0", bytes(16))
        archive.writestr("a/data/1", bytes(8))
        archive.writestr("a/version", b"3\n")
    _load_checkpoint(buffer.getvalue(), folder)


@cache
def _client() -> Any:
    import tempfile

    from fastapi.testclient import TestClient

    from slicewise.config.compose import compose
    from slicewise.inference.pipeline import Pipeline
    from slicewise.models.checkpoint import Checkpoint, save_checkpoint
    from slicewise.models.multitask import MultitaskModel
    from slicewise.serving.api.app import create_app

    config = compose(
        ["preprocessing.image_size=32", "model={encoder:resnet18,encoder_depth:3,head_hidden:0}"]
    )
    model = config.model.model_copy(update={"encoder_weights": None})
    weights = MultitaskModel(model, config.tasks).state_dict()
    checkpoint = Checkpoint(
        weights,
        model,
        config.preprocessing,
        config.tasks,
        "joint",
        {},
        "f",
        "phantom",
        True,
        "flair",
    )
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "m.pth", checkpoint)
        pipeline = Pipeline.load(Path(folder) / "m.pth", device="cpu")
        app = create_app(
            pipeline, config.serving.model_copy(update={"max_upload_mib": 1}), cases_dir=Path(folder)
        )
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)


def _post(data: bytes, folder: Path) -> None:
    """Send a whole request body."""
    head = {"content-type": "multipart/form-data; boundary=X"}
    _check_response(_client().post("/predict", content=data, headers=head))


def _upload(data: bytes, folder: Path) -> None:
    """Send untrusted content in a valid form, with two file names."""
    for form in (seeds.multipart("a", data), seeds.multipart("../a", data, modality="t1ce")):
        _post(form, folder)


def _visit(data: bytes, folder: Path) -> None:
    """Send an address and a query."""
    from urllib.parse import quote_from_bytes

    path, _, query = data.partition(b"?")
    address = (
        "/" + quote_from_bytes(path.lstrip(b"/"), safe="/.%") + "?" + quote_from_bytes(query, safe="=&%")
    )
    _check_response(_client().get(address))
    _check_response(_client().post(address, content=b""))


def _check_response(response: Any) -> None:
    assert response.status_code < 500, (response.status_code, response.text)
    if response.status_code >= 400 and response.headers["content-type"] == "application/problem+json":
        assert response.json()["detail"]


def _addresses() -> list[bytes]:
    return [
        b"/results/abc/slices/0.png?layer=overlay",
        b"/cases/x/predict?gradcam=true",
        b"/results/%2e%2e/mask.nii.gz",
    ]


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "nifti",
            _read_nifti,
            lambda: seeds.niftis() + seeds.packed_niftis(),
            "a volume",
        ),
        Target("nifti-packed", _read_packed_nifti, seeds.niftis, "a volume inside a valid gzip"),
        Target("dicom", _read_dicom, seeds.dicoms, "a DICOM file or directory"),
        Target("picture", _read_picture, seeds.pictures, "a picture"),
        Target("slices", _read_slices, seeds.slices, "a TIFF slice and its mask"),
        Target("archive", _unpack, seeds.archives, "a downloaded ZIP"),
        Target("config-file", _compose_file, seeds.configs, "a YAML file below configs/"),
        Target("override", _compose_overrides, seeds.overrides, "overrides of the command line"),
        Target("checkpoint", _load_checkpoint, seeds.states, "a checkpoint or training state"),
        Target("checkpoint-pickle", _load_pickle, seeds.pickles, "the pickle inside one"),
        Target("receipt", records.read_receipt, records.receipts, "the receipt of an output"),
        Target("index", records.read_index, records.indices, "the list of cases"),
        Target("split", records.read_split, records.splits, "the split"),
        Target("entry", records.read_entry, records.entries, "an entry of the slice store"),
        Target("array", records.read_array, records.arrays, "an array of the slice store"),
        Target("states", records.read_states, records.demo_states, "demo, hashes, last run"),
        Target("kaggle-json", records.read_kaggle, records.notes, "credentials and a download's note"),
        Target("api-body", _post, seeds.forms, "the body of a request"),
        Target("api-file", _upload, lambda: seeds.pictures() + seeds.niftis(), "a file in a request"),
        Target("api-address", _visit, _addresses, "an address and its query"),
    )
}
