"""The class of a picture as a user trains it: folders of three classes, from training to prediction."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.conftest import Pipeline

from slicewise.core.files import read_json

CLASSES = ("disc", "square", "cross")
NUMBER = 24


def draw(kind: str, seed: int) -> Image.Image:
    """Return a grey picture of a bright head with one shape in it."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 18, (16, 16)).clip(-60, 60) + 90
    image = Image.fromarray(noise.astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    pen, (x, y), half = ImageDraw.Draw(image), rng.integers(30, 66, 2).tolist(), int(rng.integers(14, 20))
    box = (x - half, y - half, x + half, y + half)
    if kind == "disc":
        pen.ellipse(box, fill=230)
    elif kind == "square":
        pen.rectangle(box, outline=230, width=4)
    else:
        pen.line(box, fill=230, width=5)
        pen.line((x - half, y + half, x + half, y - half), fill=230, width=5)
    return image


@pytest.fixture(scope="module")
def trained_on_classes(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    root = tmp_path_factory.mktemp("classes")
    for number, kind in enumerate(CLASSES):
        folder = root / "pictures" / f"{kind}s"
        folder.mkdir(parents=True)
        for place in range(NUMBER):
            draw(kind, 1000 * number + place).save(folder / f"{place}.png")
    words = (
        "recipes=tumour_types", "data=class_folders", f"data.path={root / 'pictures'}",
        f"tasks.classification.classes=[{','.join(CLASSES)}]", "preprocessing.image_size=64",
        "model.encoder=tu-test_resnet", "model.encoder_weights=null", "model.encoder_depth=3",
        "training.batch_size=8", "stages.train.epochs=2", "training.sample_predictions=1",
        "evaluation.gradcam_pictures=2", "evaluation.bootstrap_samples=200", "runtime.num_threads=1",
    )  # fmt: skip
    pipeline = Pipeline(root / "workspace", words)
    assert pipeline.run("--until", "report") == 0
    return pipeline


def test_every_class_is_scored_and_reported(trained_on_classes: Pipeline) -> None:
    results = trained_on_classes.workspace / "results"
    metrics = read_json(results / "multitask_evaluation/metrics.json")
    section = metrics["sources"]["class_folders"]["classification"]
    assert [*section["classes"]] == [*CLASSES]
    assert sum(map(sum, section["confusion"])) == metrics["sources"]["class_folders"]["num_slices"]
    assert section["roc_auc"]["value"] > 0.4
    page = (results / "report/report.html").read_text()
    assert "each class against the others" in page
    assert "called square" in page
    assert "whole patients" not in page
    assert "mask threshold" not in page
    pictures = [*(trained_on_classes.workspace / "visualizations").rglob("*_right.png")]
    pictures += [*(trained_on_classes.workspace / "visualizations").rglob("*_wrong.png")]
    assert len(pictures) == 2


def test_a_picture_has_a_probability_of_each_class(trained_on_classes: Pipeline, tmp_path: Path) -> None:
    draw("cross", 7).save(tmp_path / "new.png")
    workspace = str(trained_on_classes.workspace)
    from slicewise.cli.main import main

    words = [
        "recipes=tumour_types",
        "data=class_folders",
        f"data.path={tmp_path}",
        "evaluation.uncertain_band=0",
    ]
    assert main(["predict", "--workspace", workspace, str(tmp_path / "new.png"), *words]) == 0
    table = trained_on_classes.workspace / "results/predictions/predictions.csv"
    (row,) = csv.DictReader(table.read_text().splitlines())
    shares = {name: float(row[f"probability_{name}"]) for name in CLASSES}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert row["verdict"] == max(shares, key=shares.__getitem__)
    assert row["tumour_probability"] == ""
