"""Every command in the tutorials, the how-to pages and the README: parsed, composed, run in tiny form."""

import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.conftest import TINIEST, TINY, Pipeline
from tests.fixtures.dicom import Series, write_directory
from tests.scripts import ROOT, load_script

from slicewise.cli.main import VERBS, main
from slicewise.cli.options import expand_words
from slicewise.config.schema.sources import ShapesSettings
from slicewise.core.files import read_json
from slicewise.data.shapes import write_shapes

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUN_ONLY = {"--no-input", "--yes", "--dry-run", "--on", "slurm", "ray"}
EXIT_CODES = {"demo": (1,), "doctor": (0, 1)}
"""No demo runs in the tests; a busy machine may have too little memory."""
SHORT = [f"stages.{stage}.epochs=1" for stage in ("seg_warmup", "cls_head", "joint")]
ONE_STAGE = {f"recipes={recipe}" for recipe in ("binary", "multiclass", "tumour_types")}
FEW_SHAPES = {"train": 8, "val": 4, "test": 4}


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command of a page; `slicewise` with or without the folder of the program."""
    fences = FENCE.findall(page.read_text(encoding="utf-8"))
    text = "".join(code for language, code in fences if not language).replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [[line[0].removeprefix(".venv/bin/"), *line[1:]] for line in lines if line]


TYPES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
ALL = [(page.stem, words) for page in PAGES for words in commands(page)]
SLICEWISE = [(stem, words[1:]) for stem, words in ALL if words[0] == "slicewise"]


def write_pictures_with_masks(data: Path) -> None:
    """A flat set of one class, and one of two classes in folders train, val and test."""
    for name, classes in (("drawn", 1), ("organs", 2)):
        few = ShapesSettings(kind="shapes", name=name, size=64, classes=classes, **FEW_SHAPES)
        write_shapes(data / name, few)
    for path in sorted((data / "drawn").rglob("*.???")):
        place = data / "cells" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)


def write_dicom(patient: Path, data: Path) -> None:
    """Write two series of a patient: a study, the same on a disc, and a series that tells nothing."""
    for number, (name, description) in enumerate((("t1ce", "T1 +C"), ("flair", "FLAIR"), ("t2", "x")), 1):
        voxels = np.asarray(nib.load(patient / f"{patient.name}_{name}.nii.gz").dataobj).T.astype(np.int16)
        series = Series(voxels, number=number, description=description)
        if name == "t2":
            series.write(data / "series7")
        else:
            series.write(data / "study" / name)
            series.write(data / "cd" / name.upper())
    files = [path for path in (data / "cd").rglob("*") if path.is_file()]
    write_directory(data / "cd" / "DICOMDIR", files)


def test_commands_of_other_programs_are_known() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    for _, words in ALL:
        if words[0] == "make":
            assert words[1] in targets[1].split()
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file()
        else:
            assert words[0] in {
                "slicewise",
                "curl",
                "openssl",
                "docker",
                "systemctl",
                "kubectl",
                "salloc",
                ".",
            }, words


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files under the names of the pages: enough for a plan, which reads no image."""
    folder = tmp_path / "data"
    for name in ("BraTS/P1/P1_flair.nii.gz", "ours/P2/P2_flair.nii.gz"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"a volume")
    for label in ("yes", "no"):
        (folder / "pictures" / label).mkdir(parents=True)
        Image.fromarray(np.full((40, 40), 9, np.uint8)).save(folder / "pictures" / label / f"{label}1.png")
    for kind in TYPES:
        (folder / "types" / kind).mkdir(parents=True)
    write_pictures_with_masks(folder)
    (folder / "split.csv").write_text("name,subset\nPhantom_00003,test\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("page", "words"), SLICEWISE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_command_parses_and_composes(
    page: str, words: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(ROOT / "configs"))
    words = [word.replace("/data/", f"{data}/") for word in words]
    if words[0] in {"run", "plan"} and "--config" not in words:
        assert main(["plan", *(word for word in words[1:] if word not in RUN_ONLY)]) == 0
    elif words[0] == "config":
        assert main(words) == 0
    else:
        assert words[0] in VERBS
        load_script("list_commands").parser_of(words[0]).parse_intermixed_args(expand_words(words[1:]))


def test_the_api_has_what_curl_calls(checkpoint_path: Path, tmp_path: Path) -> None:
    from slicewise.config.compose import compose
    from slicewise.inference.pipeline import Pipeline as Predictor
    from slicewise.serving.api.app import create_app

    pipe = Predictor.load(checkpoint_path, device="cpu")
    app = create_app(pipe, compose([]).serving, num_threads=1, cases_dir=tmp_path)
    routes = {*app.openapi()["paths"]}
    called = {re.sub(r"^http://[^/]*|\?.*$", "", words[-1]) for _, words in ALL if words[0] == "curl"}
    assert called
    assert called <= routes


def tiny(words: list[str]) -> list[str]:
    """Return a command with the overrides of a tiny pipeline; with other sources, of the smallest model."""
    if words[0] == "test":  # the model decides the rest
        return [*words, *(word for word in TINY if word.startswith(("evaluation.", "runtime.")))]
    if words[0] == "data":
        return [*words, *(f"--{subset}={number}" for subset, number in FEW_SHAPES.items())]
    if (
        words[0] not in {"run", "plan", "ablate", "config", "doctor", "pull", "tune", "export-plan"}
        or "--diff" in words
    ):
        return words
    if "--config" in words:  # every key is in that file
        return words
    own = any(word.startswith("data=") for word in words)
    if not own:
        return [*words, *TINY]
    short = ["stages.train.epochs=1"] if ONE_STAGE & {*words} else SHORT
    sets = [word.removeprefix("data=") for word in words if word.startswith("data=shapes")]
    drawn = [
        f"data.sources.{name}.{subset}={number}" for name in sets for subset, number in FEW_SHAPES.items()
    ]
    return [*words, *short, *drawn, *(word for word in TINIEST if not word.startswith("data."))]


@pytest.fixture(scope="module")
def here(trained: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader of all pages works: that of a first run, with another run in it."""
    folder = tmp_path_factory.mktemp("reader") / "here"
    shutil.copytree(trained.workspace, folder, ignore=shutil.ignore_patterns("lock"))
    shutil.copytree(trained.workspace, folder / "other", ignore=shutil.ignore_patterns("lock"))
    return folder


@pytest.fixture(scope="module")
def patients(trained: Pipeline, here: Path) -> Path:
    """The generated patients, coarse, and pictures under the names of the pages."""
    folder, generated = here.with_name("data"), trained.workspace / "data"
    volumes = sorted({path.parent for path in generated.rglob("Phantom_*_seg.nii.gz")})
    for path in [file for volume in volumes for file in volume.iterdir()]:
        target = folder / "BraTS" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.load(path).slicer[::4, ::4, ::5], target)
    tested = read_json(trained.workspace / "data" / "split" / "split.json")["sources"]["phantom"]["test"]
    shutil.copytree(folder / "BraTS" / tested[0], folder / "ours" / "Ours_1")
    (yes,) = {path.parent.parent for path in generated.rglob("*.png") if path.parent.name in {"yes", "no"}}
    shutil.copytree(yes, folder / "pictures")
    for number, kind in enumerate(TYPES):  # eight pictures each
        (folder / "types" / kind).mkdir(parents=True)
        for place in range(8):
            rng = np.random.default_rng(100 * number + place)
            head = Image.fromarray(rng.integers(40, 220, (8, 8), np.uint8)).resize((64, 64))
            head.save(folder / "types" / kind / f"{place}.png")
    write_pictures_with_masks(folder)
    write_dicom(folder / "BraTS" / volumes[0].name, folder)
    (folder / "split.csv").write_text(f"name,subset\n{volumes[0].name},test\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_one_after_the_other(
    page: Path, here: Path, patients: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    listed = [words[1:] for words in commands(page) if words[0] == "slicewise"]
    listed = [words for words in listed if words[0] != "serve"]  # until a signal; see tests/cli/test_serve.py
    if not listed:
        pytest.skip("a page without commands")
    if any("--on" in words for words in listed):
        slurm = request.getfixturevalue("slurm")
        for name in ("PATH", "SLURM_CONF"):
            monkeypatch.setenv(name, slurm.env[name])
        # Each job that loads torch takes seconds; tests/cluster runs them to the evaluation.
        listed = [["split" if word == "report" else word for word in words] for words in listed]
    monkeypatch.chdir(here)
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(ROOT / "configs"))
    if page.stem == "remote":  # its colleague has the default settings; other pages trained with others
        listed.insert(0, ["run", "--no-input", "--until", "train"])
    for words in listed:
        words = tiny([word.replace("/data/", f"{patients}/") for word in words])
        assert main(words) in EXIT_CODES.get(words[0], (0,)), words
