"""Small valid files as seeds, all generated."""

import gzip
import io
import json
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import RLELossless
from tests.fixtures.dicom import Series, write_directory

AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])


def grey(shape: tuple[int, ...] = (20, 24)) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@cache
def niftis() -> list[bytes]:
    voxels = grey((8, 6, 4))
    images = [
        nib.Nifti1Image(voxels, AFFINE),
        nib.Nifti2Image(voxels.astype(np.int16), AFFINE),
        nib.Nifti1Image((voxels % 4).astype(np.float32), AFFINE),
        nib.Nifti1Image(voxels.astype(np.float64), np.array(AFFINE[[1, 0, 2, 3]])),
    ]
    files = [bytes(image.to_bytes()) for image in images]
    big = nib.Nifti1Header(endianness=">")
    big.set_data_dtype(np.int16)
    big.set_data_shape(voxels.shape)
    big["vox_offset"], big["magic"], big["pixdim"][1:4] = 352, b"n+1", 1
    files.append(big.binaryblock + bytes(4) + voxels.astype(">i2").tobytes(order="F"))
    return files


@cache
def packed_niftis() -> list[bytes]:
    plain = niftis()[0]
    return [
        gzip.compress(plain, 1, mtime=0),
        gzip.compress(plain[:400], mtime=0) + gzip.compress(plain[400:], mtime=0),
    ]


@cache
def dicoms() -> list[bytes]:
    voxels = grey((3, 6, 4)).astype(np.int16)
    tags = {"EchoTime": 90, "ImageType": ["ORIGINAL", "PRIMARY"], "SOPInstanceUID": "1.2.5"}
    series = Series(voxels, description="FLAIR", series="1.2.6", tags=tags)
    with TemporaryDirectory() as folder:
        files = [series.write(Path(folder))[0], series.write_enhanced(Path(folder) / "many")]
        write_directory(Path(folder) / "DICOMDIR", [Path(folder) / "A", Path(folder) / "B"])
        compressed = pydicom.dcmread(files[0])
        compressed.compress(RLELossless, generate_instance_uid=False)
        compressed.save_as(Path(folder) / "rle")
        files += [Path(folder) / "DICOMDIR", Path(folder) / "rle"]
        return [path.read_bytes() for path in files]


@cache
def pictures() -> list[bytes]:
    colour = Image.fromarray(grey((20, 24, 3)))
    exif = Image.Exif()
    exif[0x0112] = 6
    pages = [colour.convert("P"), colour.convert("P").rotate(90)]
    return [
        _saved(colour, "PNG"),
        _saved(colour.convert("P"), "PNG"),
        _saved(colour.convert("LA"), "PNG"),
        _saved(Image.fromarray(grey().astype(np.uint16) * 200), "PNG"),
        _saved(colour, "JPEG", exif=exif),
        _saved(colour.convert("CMYK"), "JPEG"),
        _saved(colour, "TIFF"),
        _saved(colour, "TIFF", compression="tiff_lzw"),
        _saved(Image.fromarray(grey().astype(np.float32)), "TIFF"),
        _saved(colour, "BMP"),
        _saved(pages[0], "GIF", save_all=True, append_images=pages[1:]),
        _saved(colour, "WEBP"),
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="99" height="99"/></svg>',
    ]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@cache
def slices() -> list[bytes]:
    """A slice and a mask in the format of kaggle_3m."""
    mask = np.where(grey() > 128, np.uint8(255), np.uint8(0))
    return [_saved(Image.fromarray(grey((20, 24, 3))), "TIFF"), _saved(Image.fromarray(mask), "TIFF")]


@cache
def archives() -> list[bytes]:
    files = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/b/one.txt", b"one" * 40)
            archive.writestr("two.txt", b"two")
            archive.writestr("A/", b"")
        files.append(buffer.getvalue())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("big", "w", force_zip64=True) as stream:
        stream.write(b"big")
    return [*files, buffer.getvalue()]


def configs() -> list[bytes]:
    root = Path(__file__).resolve().parents[2] / "configs"
    names = ("recipes/lgg_cpu.yaml", "data/brats.yaml", "stages/joint.yaml", "base/split.yaml")
    return [(root / name).read_bytes() for name in names]


def overrides() -> list[bytes]:
    lines = (
        "training.batch_size=8",
        "data.sources.volumes.path='a b'\nmodes=quick",
        "training.mask_loss={bce:1,dice:1}",
        "preprocessing.clip_percentiles=[1,99]",
        "+x.y=${seed}",
        "~recipes",
        "data=${oc.env:KAGGLE_KEY}",
        "seed=1e999\nseed=nan",
        "a=choice(1,2,3)",
    )
    return [line.encode() for line in lines]


@cache
def states() -> list[bytes]:
    """A checkpoint and a training state with dummy weights, for all checks before the model is built."""
    import torch

    from slicewise.config.compose import compose

    config = compose()
    checkpoint = {
        "format": "slicewise-checkpoint",
        "version": 2,
        "weights": {"a.weight": torch.zeros(2, 2), "a.count": torch.tensor(3)},
        "model": config.model.model_dump() | {"encoder_depth": 3, "encoder": "resnet18"},
        "preprocessing": config.preprocessing.model_dump(),
        "tasks": config.tasks.model_dump(),
        "stage": "joint",
        "metrics": {"dice": 0.5},
        "fingerprint": "f",
        "data_name": "phantom",
        "synthetic": True,
        "slot": "flair",
    }
    training = {"format": "slicewise-training", "version": 1, "fingerprint": "f", "progress": {"epoch": 1}}
    return [_pickled(checkpoint), _pickled({**training, "weights": {"a": torch.ones(2, 2)}})]


def _pickled(content: dict[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@cache
def pickles() -> list[bytes]:
    """The pickles inside `states`."""
    pickled = []
    for state in states():
        with zipfile.ZipFile(io.BytesIO(state)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            pickled.append(archive.read(name))
    return pickled


def multipart(name: str, content: bytes, **fields: str) -> bytes:
    """Return a form as browsers send it, with the boundary `X`."""
    parts = [
        f'--X\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n'.encode()
        for key, text in fields.items()
    ]
    head = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return b"".join([*parts, head, content, b"\r\n--X--\r\n"])


def forms() -> list[bytes]:
    return [
        multipart("a.png", pictures()[0]),
        multipart("../../a.nii", niftis()[0], modality="flair"),
        multipart("a.nii.gz", packed_niftis()[0], modality="t1"),
    ]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
