"""What `pip install slicewise[runtime]` installs predicts as the whole installation does, byte for byte."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.exporting.test_export import saved

from slicewise.cli.main import main
from slicewise.models.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("torch", "cv2", "scipy", "nibabel", "matplotlib", "hydra", "yaml", "pydicom", "tifffile", "monai")
UNREACHABLE = ("failed to fetch", "dns error", "client error", "timed out", "could not connect", "tunnel")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the packages of the lock and the project alone."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    python, uv = folder / "bin" / "python", Path(sys.executable).with_name("uv")
    lock = ROOT / "requirements" / "runtime.lock"
    words: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        f"--python={python}",
        "--require-hashes",
        f"--requirements={lock}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode and any(text in done.stderr.lower() for text in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "slicewise.pth").write_text(f"{ROOT / 'src'}\n")
    return python


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    saved(checkpoint, folder)
    assert main(["export", "joint", "--workspace", str(folder), "--parity", "4"]) == 0
    return folder / "exports" / "multitask_joint"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG, a picture in colour, and a patient with two modalities of voxels that are not cubes."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    y, x = np.mgrid[-1:1:90j, -1:1:81j]
    head = np.where(x**2 + (y / 0.9) ** 2 < 0.8, 120 + 60 * np.sin(9 * x) + rng.normal(0, 9, x.shape), 2.0)
    Image.fromarray(head.clip(0, 255).astype(np.uint8)).save(folder / "photo.jpg", quality=90)
    Image.fromarray(np.stack([head, head, head * 0.9], -1).clip(0, 255).astype(np.uint8)).save(
        folder / "c.png"
    )
    affine = np.array([[-1.1, 0.1, 0, 40], [0.1, 0.9, 0, -50], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    (folder / "patient").mkdir()
    for name in ("flair", "t1"):
        volume = np.stack([head * rng.uniform(0.5, 2) for _ in range(6)], -1).astype(np.int16)
        volume[head < 10] = 0
        nib.save(nib.Nifti1Image(volume, affine), folder / "patient" / f"patient_{name}.nii.gz")
    return folder


def predict(python: Path | str, bundle: Path, inputs: Path, out: Path, *options: str) -> str:
    words = [python, "-m", "slicewise", "predict", "--checkpoint", bundle, *sorted(inputs.iterdir())]
    words += ["--out", out, *options]
    environment = {"PATH": os.environ["PATH"], "HOME": str(out.parent)}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=environment, cwd=bundle.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [(), ("--tta", "--uncertainty", "evaluation.mask_smoothing=1.0")])
def test_predictions_are_the_same_bytes(
    bare_python: Path, bundle: Path, inputs: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {ABSENT!r} if find_spec(n)])"
    done = subprocess.run([bare_python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    options = (*options, "--probability-maps")
    bare, whole = tmp_path / "bare", tmp_path / "whole"
    said = predict(bare_python, bundle, inputs, bare, *options, "--submission", str(tmp_path / "bare.csv"))
    assert "3 cases predicted, 0 failed" in said
    predict(sys.executable, bundle, inputs, whole, *options, "--submission", str(tmp_path / "whole.csv"))
    names = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in bare.iterdir()) == names
    assert {"patient_mask.nii.gz", "photo_mask.png", "c_overlay.png", "predictions.csv"} <= {*names}
    for name in names:
        assert (bare / name).read_bytes() == (whole / name).read_bytes(), name
    assert (tmp_path / "bare.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["plan"], "hydra"),
        (["predict", "--checkpoint", "{bundle}", "{inputs}/photo.jpg", "data=lgg"], "hydra"),
        (["predict", "--checkpoint", "{bundle}", "{inputs}/photo.jpg", "--truth", "{inputs}"], "torch"),
    ],
)
def test_what_needs_more_names_the_extra(
    bare_python: Path, bundle: Path, inputs: Path, tmp_path: Path, words: list[str], package: str
) -> None:
    command = [word.format(bundle=bundle, inputs=inputs) for word in words]
    done = subprocess.run(
        [bare_python, "-m", "slicewise", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"the package {package} is not installed" in done.stderr
    assert "pip install 'slicewise[pipeline]'" in done.stderr
