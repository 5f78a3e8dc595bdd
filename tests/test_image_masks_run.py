"""Pictures with masks as people bring them, from a folder on the command line to the report."""

import csv
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tests.conftest import Pipeline

from slicewise.core.files import read_json
from slicewise.inference.submission import decode_mask

SIZES = ((64, 48), (48, 64), (56, 56))
"""Width and height"""
WORDS_OF_MEDICINE = r"\b[Pp]atients?\b|[Tt]umou?r|\bbrain\b|voxel|\bMRI\b|\bslices?\b|hospital|Grad-CAM"


def draw(number: int) -> tuple[NDArray[np.uint8], Image.Image]:
    """Return a picture with a bright disc and a dark bar, and their mask with a palette: 1 and 2."""
    size = SIZES[number % len(SIZES)]
    noise = np.random.default_rng(number).integers(90, 150, (6, 8, 3), np.uint8)
    picture, mask = Image.fromarray(noise).resize(size), Image.new("P", size)
    mask.putpalette([0, 0, 0, 250, 250, 0, 0, 90, 250])
    shift = number % 5
    for image, disc, bar in ((picture, (250, 250, 230), (10, 20, 40)), (mask, 1, 2)):
        pen = ImageDraw.Draw(image)
        pen.ellipse((6 + shift, 6, 22 + shift, 22), fill=disc)
        pen.rectangle((8, 30 + shift, 40, 38 + shift), fill=bar)
    return np.asarray(picture), mask


def write_set(root: Path) -> Path:
    """Write 8 bits and 16, grey and with alpha, JPEG; in folders; and two files that cannot be used."""
    for number in range(16):
        folder = root / ("train" if number < 8 else "val" if number < 12 else "test")
        pixels, mask = draw(number)
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        path = folder / "images" / f"p{number:02d}"
        if number % 4 == 0:
            cv2.imwrite(f"{path}.png", pixels[..., ::-1].astype(np.uint16) * 257)
        elif number % 4 == 1:
            Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])).save(f"{path}.png")
        elif number % 4 == 2:
            Image.fromarray(pixels).convert("L").save(f"{path}.png")
        else:
            Image.fromarray(pixels).save(f"{path}.jpg", quality=92)
        mask.save(folder / "masks" / f"p{number:02d}.png")
    Image.fromarray(draw(20)[0]).save(root / "train/images/alone.png")
    Image.fromarray(draw(21)[0]).save(root / "train/images/wide.png")
    Image.new("L", (9, 9), 1).save(root / "train/masks/wide.png")
    return root


def pipeline_on(data: Path, workspace: Path, *words: str) -> Pipeline:
    tiny = (
        "recipes=multiclass", "data=image_masks", f"data.path={data}", "preprocessing.image_size=64",
        "stages.train.epochs=1", "model.encoder=tu-test_resnet", "model.encoder_weights=null",
        "model.encoder_depth=3", "training.batch_size=4", "evaluation.bootstrap_samples=200",
        "evaluation.sample_predictions=3", "runtime.num_threads=1",
    )  # fmt: skip
    return Pipeline(workspace, (*tiny, *words))


@pytest.fixture(scope="module")
def trained_on_masks(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    root = tmp_path_factory.mktemp("masks")
    pipeline = pipeline_on(write_set(root / "set"), root / "work", "tasks.segmentation.classes=[disc,bar]")
    assert pipeline.run("--until", "report") == 0
    return pipeline


def test_the_folders_are_the_split_and_what_cannot_be_used_is_listed(trained_on_masks: Pipeline) -> None:
    split = read_json(trained_on_masks.workspace / "data/split/split.json")
    sizes = {subset: len(names) for subset, names in split["sources"]["image_masks"].items()}
    assert sizes == {"train": 8, "val": 4, "test": 4}
    problems = (trained_on_masks.workspace / "data/index/problems.txt").read_text()
    assert "alone.png" in problems
    assert "9 x 9 pixels" in problems


def test_report_and_card_speak_of_pictures(trained_on_masks: Pipeline) -> None:
    folder = trained_on_masks.workspace / "results/report"
    page = re.sub(
        r"<style>.*?</style>|<details><summary>.*?</details>",
        "",
        (folder / "report.html").read_text(),
        flags=re.S,
    )
    text = re.sub(r"<[^>]*>", " ", page)
    card = (folder / "model_card.md").read_text()
    for words in (text.rpartition("Provenance")[0], card.partition("---\n\n")[2].partition("## Training")[0]):
        assert "disc" in words
        assert re.findall(WORDS_OF_MEDICINE, re.sub(r"\w+\.(csv|md)", "", words)) == []
    assert "segments pictures into background, disc and bar" in card
    assert "given by the folders of the data" in card
    assert "most probable class" in text


def test_failures_are_copied_and_the_pixels_confused(trained_on_masks: Pipeline) -> None:
    failures = trained_on_masks.workspace / "results/failures"
    copies = sorted((failures / "pictures").glob("*.png"))
    assert {path.stem.rpartition("_")[2] for path in copies} == {"image", "reference", "prediction"}
    assert len(copies) == 3 * len([*csv.DictReader((failures / "slices.csv").read_text().splitlines())])


def test_prediction_on_it_has_the_size_of_each_file(
    trained_on_masks: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = trained_on_masks.workspace
    pictures, submission = workspace.parent / "set/test/images", workspace / "submission.csv"
    assert trained_on_masks.call("predict", str(pictures), "--submission", str(submission)) == 0
    shown = capsys.readouterr().out
    assert "medical" not in shown
    rows = [*csv.DictReader(submission.read_text().splitlines())]
    assert [row["ClassId"] for row in rows] == ["1", "2"] * 4
    for path in pictures.iterdir():
        with (
            Image.open(path) as picture,
            Image.open(workspace / f"results/predictions/{path.stem}_mask.png") as mask,
        ):
            assert (mask.size, mask.mode) == (picture.size, "P")
            numbers = np.asarray(mask)
        for row in (row for row in rows if row["ImageId"] == path.stem):
            expected = numbers == int(row["ClassId"])
            np.testing.assert_array_equal(decode_mask(row["EncodedPixels"], expected.shape), expected)


def test_a_copy_in_two_folders_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_set(tmp_path / "set")
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        source = data / "train" / kind / f"p03.{ending}"
        (data / "test" / kind / f"copy.{ending}").write_bytes(source.read_bytes())
    words = "tasks.segmentation.classes=[disc,bar]"
    assert pipeline_on(data, tmp_path / "work", words).run("--until", "split") == 1
    assert re.search(r"p03.*copy|copy.*p03", capsys.readouterr().err, re.DOTALL)


def test_a_class_that_the_recipe_lacks_is_named_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_set(tmp_path / "set")
    Image.new("L", draw(0)[1].size, 3).save(data / "train/masks/p00.png")
    words = "tasks.segmentation.classes=[disc,bar]"
    assert pipeline_on(data, tmp_path / "work", words).run("--until", "train") == 1
    said = capsys.readouterr().err
    assert "3" in said
    assert "tasks.segmentation" in said
