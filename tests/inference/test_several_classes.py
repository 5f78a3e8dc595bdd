"""Several classes of a pixel, from the model's logits to files, scores and reports."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score
from tests.fixtures.small_model import MODEL, TASKS
from tests.inference.pipelines import pipeline
from torch import Tensor

from slicewise.config.schema import Evaluation, Tasks
from slicewise.config.schema.model import Activation, SegmentationSettings, TaskName
from slicewise.domain.classes import Classes
from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import SliceRow, describe_mask_threshold, read_rows, to_csv
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.held_out import evaluate_held_out
from slicewise.evaluation.report import write_report
from slicewise.evaluation.threshold_selection import select_thresholds
from slicewise.explain.cam import compute_gradcam
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.prediction_rows import PredictionRow
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel

NAMES = ("edema", "core")


def by_brightness(images: Tensor, *, exclusive: bool) -> dict[TaskName, Tensor]:
    """From z-scores in FLAIR of 0 on it is edema, from 1 on core; of overlapping classes also edema."""
    bright = images[:, 3:4]
    if exclusive:
        mask = torch.cat([0 * bright, 4 * bright, 8 * bright - 4], 1)
    else:
        mask = torch.cat([4 * bright, 4 * (bright - 1)], 1)
    return {"segmentation": mask, "classification": bright.mean((2, 3))}


def model(checkpoint: Checkpoint, *, exclusive: bool) -> Pipeline:
    activation: Activation = "softmax" if exclusive else "sigmoid"
    settings = SegmentationSettings(classes=NAMES, labels=None, activation=activation)
    tasks = TASKS.model_copy(update={"segmentation": settings})
    weights = MultitaskModel(MODEL, tasks).state_dict()
    found = pipeline(replace(checkpoint, tasks=tasks, weights=weights))
    found._members = [lambda images, _: by_brightness(images, exclusive=exclusive)]
    return found


def test_exclusive_classes_are_one_file_of_numbers(
    checkpoint: Checkpoint, volume_path: Path, picture_path: Path, tmp_path: Path
) -> None:
    found = model(checkpoint, exclusive=True)
    prediction = found.predict(volume_path, channels="flair")
    assert prediction.mask_probability.shape[1] == 2
    assert prediction.masks is not None
    assert prediction.mask is not None
    assert prediction.masks.any(axis=(1, 2, 3)).all()
    assert not (prediction.masks[0] & prediction.masks[1]).any()
    name = prediction.save_mask(tmp_path)
    assert name is not None
    saved = nib.load(tmp_path / name)
    volume = float(np.prod(saved.header.get_zooms())) / 1000
    numbers, volumes = np.asarray(saved.dataobj), prediction.class_volumes_ml
    assert {*np.unique(numbers).tolist()} == {0, 1, 2}
    for number, each in enumerate(NAMES, start=1):
        assert volumes[each] == pytest.approx(np.count_nonzero(numbers == number) * volume)
    assert prediction.volume_ml == pytest.approx(sum(v or 0 for v in volumes.values()))

    row = prediction.to_row(mask=name)
    (header, line) = to_csv([row], PredictionRow).splitlines()
    assert header.endswith("error,volume_ml_edema,volume_ml_core,num_lesions_edema,num_lesions_core")
    assert row.to_json()["num_lesions_core"] == len(prediction.lesions["core"]) > 0
    assert len(line.split(",")) >= 3
    assert row.to_json()["volume_ml_core"] == volumes["core"]

    picture = found.predict(picture_path)
    name = picture.save_mask(tmp_path)
    assert name is not None
    assert picture.class_numbers is not None
    with Image.open(tmp_path / name) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), np.squeeze(picture.class_numbers))
        palette = image.getpalette()
    assert palette is not None
    assert tuple(palette[3:9]) == (230, 159, 0, 0, 158, 115)


def test_overlapping_classes_are_a_file_each(
    checkpoint: Checkpoint, volume_path: Path, tmp_path: Path
) -> None:
    prediction = model(checkpoint, exclusive=False).predict(volume_path, channels="flair")
    assert prediction.masks is not None
    assert not (prediction.masks[1] & ~prediction.masks[0]).any()
    name = prediction.save_mask(tmp_path)
    assert name is not None
    files = name.split("; ")
    assert files == [f"{prediction.case}_{each}_mask.nii.gz" for each in NAMES]
    counts = [np.count_nonzero(np.asarray(nib.load(tmp_path / file).dataobj)) for file in files]
    assert counts == prediction.masks.sum(axis=(1, 2, 3)).tolist()
    np.testing.assert_array_equal(prediction.mask, prediction.masks[0])


def test_several_classes_of_a_slice_have_a_probability_each(
    checkpoint: Checkpoint, picture_path: Path
) -> None:
    three = {"classes": ("none", "glioma", "meningioma"), "activation": "softmax"}
    tasks = Tasks.model_validate({"segmentation": None, "classification": three})
    settings = MODEL.model_copy(update={"head_input": "encoder"})
    weights = MultitaskModel(settings, tasks).state_dict()
    assert not any(name.startswith("decoder.") for name in weights)
    found = pipeline(replace(checkpoint, tasks=tasks, model=settings, weights=weights, program=None))
    images, presence = torch.randn(3, 4, 64, 64).numpy(), np.ones(4)
    with torch.inference_mode():
        logits = found.model(torch.from_numpy(images), torch.ones(3, 4))["classification"]
    shares = found.predict_slices(images, presence).class_probability
    np.testing.assert_allclose(shares, logits.softmax(1), atol=1e-5)

    prediction = found.predict(picture_path)
    row = prediction.to_row()
    assert [*prediction.class_probabilities] == ["none", "glioma", "meningioma"]
    assert sum(prediction.class_probabilities.values()) == pytest.approx(1)
    by_name = prediction.class_probabilities
    assert row.predicted_class == max(by_name, key=lambda name: by_name[name])
    assert (row.tumour_probability, row.class_threshold, row.mask) == (None, None, None)
    header = to_csv([row], PredictionRow).splitlines()[0]
    assert header.endswith("error,probability_none,probability_glioma,probability_meningioma")

    maps = [compute_gradcam(found.model, images[:1], presence, targets=[number]) for number in range(3)]
    assert not np.allclose(maps[1], maps[2])


def test_the_most_probable_of_exclusive_classes_is_decided_on() -> None:
    probability = np.array([[[0.3, 0.4, 0.2, 0.5]], [[0.2, 0.35, 0.45, 0.0]]]).swapaxes(0, 1)
    found = Classes(NAMES, exclusive=True).decide(probability, np.full(2, 0.5))
    assert Classes(NAMES).numbers(found, axis=1).tolist() == [[0, 1, 2, 0]]


def cases(*, exclusive: bool, number: int = 4) -> list[CaseOutput]:
    """Patients whose reference are two squares; the prediction lacks a row of one and adds one elsewhere."""
    made = []
    for place in range(number):
        masks = np.zeros((3, 2, 16, 16), np.uint8)
        masks[1, 0, 2:8, 2 : 8 + place], masks[1, 1, 9:14, 2:8] = 1, 1
        if not exclusive:
            masks[1, 0] |= masks[1, 1]
        probability = np.where(masks, np.float32(0.9), np.float32(0.02))
        probability[1, 1, 9], probability[1, 0, 2] = 0.02, 0.02
        probability[1, 1, 2, 2:6] = 0.9
        made.append(
            CaseOutput(
                keys=[SliceKey("shapes", f"p{place}", f"p{place}", index) for index in range(3)],
                group=f"p{place}",
                mask_probability=probability,
                class_probability=np.array([0.1, 0.9, 0.2], np.float32),
                masks=masks,
                has_mask=True,
                labels=np.array([0, 1, 0], np.int8),
                pixel_mm=1.0,
                slice_mm=2.0,
                classes=Classes(NAMES, exclusive),
            )
        )
    return made


@pytest.mark.usefixtures("drawn_figures")
@pytest.mark.parametrize("exclusive", [True, False])
def test_every_class_is_scored(settings: Evaluation, tmp_path: Path, *, exclusive: bool) -> None:
    chosen = select_thresholds(cases(exclusive=exclusive), settings)
    note = "classes that exclude each other have no mask threshold"
    assert (note in " ".join(chosen.sources["shapes"].notes)) == exclusive
    found = evaluate_held_out(cases(exclusive=exclusive), chosen, settings, 0)
    (first, *_), postprocessing = cases(exclusive=exclusive), chosen.postprocessing("shapes")
    predicted, row = first.predicted(postprocessing), found.after.patients[0]
    for place, name in enumerate(NAMES):
        expected = jaccard_score(first.reference[:, place].ravel(), predicted[:, place].ravel())
        assert row.scores[f"iou_{name}"] == pytest.approx(expected)
    for metric in ("iou", "dice", "hd95_mm"):
        values = [row.scores[f"{metric}_{name}"] for name in NAMES]
        assert row.scores[metric] == pytest.approx(np.mean([value for value in values if value is not None]))
    assert found.predicted_masks(found.after.slices[1]).shape == (2, 16, 16)

    write_report(tmp_path, found, data_name="shapes", stage="joint", synthetic=True)
    assert read_rows(tmp_path / "slices.csv", SliceRow)[1].scores.keys() >= {"iou_edema", "dice_core"}
    section = json.loads((tmp_path / "metrics.json").read_text())["sources"]["shapes"]["segmentation"]
    assert section["classes"]["core"]["dice_per_patient"]["value"] == pytest.approx(
        np.mean([each.scores["dice_core"] for each in found.after.patients])
    )
    report = (tmp_path / "report.txt").read_text()
    assert "shapes: each class" in report
    assert (tmp_path / "classes.png").stat().st_size > 1000
    assert ("all pixels by class" in report) == exclusive
    if exclusive:
        check_cells(section["all_pixels"], cases(exclusive=True), found.after.patients[0].scores, predicted)


def test_overlapping_classes_have_thresholds_of_their_own(settings: Evaluation) -> None:
    """Edema is unsure everywhere; core is sure, with a wide seam that is nearly so."""

    def blurred(case: CaseOutput) -> CaseOutput:
        probability = np.where(case.masks, np.float32(0.9), np.float32(0.02))
        probability[:, 0] = np.where(case.masks[:, 0], 0.35, 0.02)
        probability[1, 1, 8:15, 1:9] = np.maximum(probability[1, 1, 8:15, 1:9], 0.65)
        return replace(case, mask_probability=probability)

    blurry = [blurred(case) for case in cases(exclusive=False, number=10)]
    chosen = select_thresholds(blurry, settings)
    found = chosen.postprocessing("shapes")
    assert {name: rule.mask_threshold for name, rule in found.by_class} == {"edema": 0.3, "core": 0.7}
    assert {*chosen.sources["shapes"].gains} >= {"edema: masks", "core: masks"}
    for case in blurry:
        np.testing.assert_array_equal(case.predicted(found), case.reference)
    assert chosen.sources["shapes"].validation["after"]["dice_per_patient"] == 1.0
    assert Postprocessing.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.describe().endswith("; edema: mask from 0.3; core: mask from 0.7")
    assert describe_mask_threshold(found.to_json()) == "mask threshold 0.3 for edema, 0.7 for core"
    fixed = found.fixed(mask_threshold=0.5, class_threshold=0.4)
    assert fixed.thresholds(Classes(NAMES)).tolist() == [0.5, 0.5]
    assert fixed.class_threshold == 0.4


def check_cells(
    pixels: Mapping[str, Any],
    all_cases: list[CaseOutput],
    scores: Mapping[str, float | None],
    predicted: NDArray[np.bool_],
) -> None:
    """All pixels by class, and the mean IoU and accuracy of the first patient, as scikit-learn has them."""
    classes, one = all_cases[0].classes, all_cases[0]
    truth, guess = (classes.numbers(each, axis=1).ravel() for each in (one.reference, predicted))
    cells = confusion_matrix(truth, guess, labels=[0, 1, 2])
    assert np.sum(np.array(pixels["confusion"])) == sum(case.reference[:, 0].size for case in all_cases)
    assert scores["pixel_accuracy"] == pytest.approx(np.trace(cells) / cells.sum())
    assert scores["mean_accuracy"] == pytest.approx(np.mean(np.diag(cells) / cells.sum(axis=1)))
    assert scores["mean_iou"] == pytest.approx(jaccard_score(truth, guess, labels=[0, 1, 2], average="macro"))
