import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from slicewise.metrics import confusion
from slicewise.metrics.table import METRICS


def random_masks(
    seed: int, share: float, shape: tuple[int, ...] = (6, 16, 16)
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random(shape) < share, rng.random(shape) < share


@pytest.mark.parametrize(("seed", "share"), [(0, 0.02), (1, 0.3), (2, 0.9)])
def test_overlap_agrees_with_scikit_learn_slice_by_slice(seed: int, share: float) -> None:
    truth, guess = random_masks(seed, share)
    overlap = confusion.count_overlap(truth, guess)
    for place, (true, guessed) in enumerate(zip(truth, guess, strict=True)):
        flat = true.ravel(), guessed.ravel()
        assert confusion.dice_score(overlap)[place] == pytest.approx(sklearn_metrics.f1_score(*flat))
        assert confusion.iou_score(overlap)[place] == pytest.approx(sklearn_metrics.jaccard_score(*flat))


@pytest.mark.filterwarnings("ignore")  # what other packages say while MONAI imports them
@pytest.mark.parametrize(("seed", "share"), [(3, 0.0), (4, 0.1), (5, 0.7)])
def test_overlap_agrees_with_monai(seed: int, share: float) -> None:
    import torch
    from monai.metrics import compute_dice, compute_iou

    truth, guess = random_masks(seed, share)
    overlap = confusion.count_overlap(truth, guess)
    masks = [torch.from_numpy(mask[:, None].astype(np.float32)) for mask in (guess, truth)]
    for ours, theirs in ((confusion.dice_score, compute_dice), (confusion.iou_score, compute_iou)):
        found = theirs(*masks, ignore_empty=False)[:, 0].numpy()
        np.testing.assert_allclose(ours(overlap), found, atol=1e-6)


@pytest.mark.parametrize(
    ("true_pixels", "guessed_pixels", "dice", "iou"),
    [
        ([], [], 1.0, 1.0),
        ([], [3], 0.0, 0.0),
        ([3], [], 0.0, 0.0),
        ([3], [3], 1.0, 1.0),
        ([3], [4], 0.0, 0.0),
        ([3, 4], [4], 2 / 3, 1 / 2),
    ],
    ids=["both empty", "false alarm", "missed", "one pixel hit", "one pixel missed", "half"],
)
def test_edge_cases(true_pixels: list[int], guessed_pixels: list[int], dice: float, iou: float) -> None:
    truth, guess = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    truth.flat[true_pixels] = True
    guess.flat[guessed_pixels] = True
    overlap = confusion.count_overlap(truth, guess)
    assert confusion.dice_score(overlap) == pytest.approx([dice])
    assert confusion.iou_score(overlap) == pytest.approx([iou])


@pytest.mark.parametrize(("seed", "share"), [(6, 0.05), (7, 0.5), (8, 0.95)])
def test_pixel_scores_agree_with_scikit_learn(seed: int, share: float) -> None:
    truth, guess = random_masks(seed, share)
    overlap = confusion.count_overlap(truth, guess)
    theirs = {
        "dice": sklearn_metrics.f1_score,
        "precision": sklearn_metrics.precision_score,
        "recall": sklearn_metrics.recall_score,
        "pixel_specificity": lambda one, two: sklearn_metrics.recall_score(one, two, pos_label=0),
        "pixel_accuracy": sklearn_metrics.accuracy_score,
        "mean_accuracy": sklearn_metrics.balanced_accuracy_score,
        "mean_iou": lambda one, two: sklearn_metrics.jaccard_score(one, two, average="macro"),
    }
    for name, score in theirs.items():
        found = METRICS[name].compute(overlap)
        expected = [score(one.ravel(), two.ravel()) for one, two in zip(truth, guess, strict=True)]
        np.testing.assert_allclose(found, expected, err_msg=name)


@pytest.mark.parametrize(
    ("truth", "guess", "expected"),
    [
        (0, 0, {"precision": 1, "recall": 1, "pixel_specificity": 1, "mean_accuracy": 1, "mean_iou": 1}),
        (0, 1, {"precision": 0, "recall": None, "pixel_specificity": 3 / 4, "mean_iou": 3 / 8}),
        (
            1,
            0,
            {
                "precision": None,
                "recall": 0,
                "pixel_specificity": 1,
                "mean_accuracy": 1 / 2,
                "mean_iou": 3 / 8,
            },
        ),
        (4, 4, {"precision": 1, "recall": 1, "pixel_specificity": None, "mean_accuracy": 1, "mean_iou": 1}),
        (1, 1, {"precision": 1, "recall": 1, "pixel_specificity": 1, "pixel_accuracy": 1, "mean_iou": 1}),
    ],
    ids=["both empty", "false alarm", "missed", "all of it", "one pixel"],
)
def test_pixel_scores_of_empty_masks_follow_the_policy(
    truth: int, guess: int, expected: dict[str, float | None]
) -> None:
    masks = [np.arange(4).reshape(2, 2) < pixels for pixels in (truth, guess)]
    overlap = confusion.count_overlap(*masks)
    for name, value in expected.items():
        found = float(METRICS[name].compute(overlap))
        assert np.isnan(found) if value is None else found == pytest.approx(value), name


def test_dice_and_iou_tell_the_same_story() -> None:
    overlap = confusion.count_overlap(*random_masks(4, 0.4))
    dice, iou = confusion.dice_score(overlap), confusion.iou_score(overlap)
    np.testing.assert_allclose(iou, dice / (2 - dice))


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        confusion.count_overlap(np.zeros((2, 4, 4)), np.zeros((3, 4, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_classification_agrees_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    scores = np.round(np.clip(labels * 0.3 + rng.random(60) * 0.7, 0, 1), 1)  # rounded: many ties
    calls = scores >= 0.5
    cells = confusion.count_confusion(labels, calls)
    assert np.array_equal(np.reshape(cells, (2, 2)), sklearn_metrics.confusion_matrix(labels, calls))
    assert confusion.accuracy(cells) == pytest.approx(sklearn_metrics.accuracy_score(labels, calls))
    balanced = sklearn_metrics.balanced_accuracy_score(labels, calls)
    assert confusion.balanced_accuracy(cells) == pytest.approx(balanced)
    assert confusion.sensitivity(cells) == pytest.approx(sklearn_metrics.recall_score(labels, calls))
    assert confusion.specificity(cells) == pytest.approx(
        sklearn_metrics.recall_score(labels, calls, pos_label=0)
    )
    assert confusion.f1(cells) == pytest.approx(sklearn_metrics.f1_score(labels, calls))
    assert confusion.mcc(cells) == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, calls))
    area = sklearn_metrics.average_precision_score(labels, scores)
    assert confusion.average_precision(labels, scores) == pytest.approx(area)
    assert confusion.roc_auc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))


def test_weights_count_a_slice_that_often() -> None:
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 30), np.round(rng.random(30), 1)
    weights = rng.integers(0, 4, (3, 30))
    areas = confusion.roc_auc(labels, scores, weights)
    steps = confusion.average_precision(labels, scores, weights)
    shares = confusion.accuracy(confusion.count_confusion(labels, scores >= 0.5, weights))
    for area, step, share, weight in zip(areas, steps, shares, weights, strict=True):
        again = np.repeat(labels, weight), np.repeat(scores, weight)
        assert area == pytest.approx(sklearn_metrics.roc_auc_score(*again))
        assert step == pytest.approx(sklearn_metrics.average_precision_score(*again))
        assert share == pytest.approx(np.mean((again[1] >= 0.5) == again[0]))


@pytest.mark.parametrize("label", [0, 1])
def test_scores_that_need_both_classes_are_undefined_without_them(label: int) -> None:
    labels, scores = np.full(5, label), np.linspace(0, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = confusion.count_confusion(labels, scores >= 0.5)
        assert np.isnan(confusion.roc_auc(labels, scores))
        assert np.isnan(confusion.balanced_accuracy(cells))
        assert np.isnan(confusion.mcc(cells))
        assert np.isnan(confusion.average_precision(labels, scores))


def test_no_slices_give_no_score() -> None:
    assert np.isnan(confusion.roc_auc([], []))
    assert np.isnan(confusion.average_precision([], []))
    assert np.isnan(confusion.accuracy(confusion.count_confusion([], [])))


def test_a_constant_answer_has_an_accuracy_but_no_skill() -> None:
    labels = np.array([1] * 7 + [0] * 3)
    cells = confusion.count_confusion(labels, np.ones(10))
    assert confusion.accuracy(cells) == pytest.approx(0.7)
    assert confusion.balanced_accuracy(cells) == 0.5
    assert confusion.mcc(cells) == 0
    assert confusion.roc_auc(labels, np.ones(10)) == 0.5
