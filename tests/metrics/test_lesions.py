import json
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from tests.conftest import REAL_DATA, ROOT

from slicewise.config.compose import compose
from slicewise.domain.classes import Classes
from slicewise.domain.keys import SliceKey
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import evaluate_slices
from slicewise.metrics.lesions import Lesions, find_lesions

REGIONS = {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}
OUR_KEYS = {
    "dice": "global_bin_dsc",
    "brats_hd95_mm": "global_bin_hd95",
    "lesion_dice": "sq_dsc",
    "lesion_hd95_mm": "sq_hd95",
    "lesion_f1": "rq",
}
OFFICIAL = ROOT / ".venv-brats" / "bin" / "python"
Labels = NDArray[np.uint8]


def boxes(*places: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Cubes of a side at places of a volume."""
    mask = np.zeros((24, 24, 24), np.bool_)
    for z, y, x, side in places:
        mask[z : z + side, y : y + side, x : x + side] = True
    return mask


def test_lesions_are_paired_one_to_one_and_others_count_against_the_f1_alone() -> None:
    truth = boxes((2, 2, 2, 4), (12, 12, 12, 6), (2, 18, 18, 2))
    guess = boxes((3, 2, 2, 4), (12, 12, 12, 6), (18, 2, 2, 3))
    lesions = find_lesions(truth, guess, (2.0, 1.0, 1.0))
    assert (lesions.num_reference, lesions.num_predicted) == (3, 3)
    assert sorted(lesions.dice) == pytest.approx([0.75, 1.0])
    assert sorted(lesions.hd95_mm) == [0.0, 2.0]
    assert lesions.f1 == pytest.approx(4 / 6)


def test_one_predicted_lesion_over_two_is_that_of_the_one_it_fits_better() -> None:
    truth = boxes((2, 2, 2, 6), (2, 2, 10, 3))
    lesions = find_lesions(truth, truth | boxes((2, 2, 8, 2)), (1.0, 1.0, 1.0))
    assert (lesions.num_reference, lesions.num_predicted) == (2, 1)
    assert lesions.dice == pytest.approx([2 * 216 / (216 + 251)])


def test_missing_and_false_lesions_have_no_pair_and_no_lesion_no_score() -> None:
    empty, full = boxes(), boxes((2, 2, 2, 4))
    for pair in ((empty, full), (full, empty), (full, boxes((12, 12, 12, 4)))):
        lesions = find_lesions(*pair, (1.0, 1.0, 1.0))
        assert (lesions.mean_dice, lesions.mean_hd95_mm, lesions.f1) == (0.0, np.inf, 0.0)
    lesions = find_lesions(empty, empty, (1.0, 1.0, 1.0))
    assert np.isnan([lesions.mean_dice, lesions.mean_hd95_mm, lesions.f1]).all()
    pooled = Lesions.pooled([Lesions(1, 0), Lesions(1, 1, [0.5], [3.0])])
    assert [pooled.mean_dice, pooled.mean_hd95_mm, pooled.f1] == pytest.approx([0.5, 3.0, 2 / 3])


def made_up(seed: int) -> tuple[Labels, Labels]:
    """A reference of some tumours, and a prediction that is shifted, lacks some, and adds others."""
    rng, shape = np.random.default_rng(seed), (40, 48, 48)
    distance = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))

    def tumours(number: int, labels: Labels, shift: int) -> Labels:
        for _ in range(number):
            centre, radius = rng.integers(8, 34, 3), rng.integers(2, 7)
            away = np.sqrt(((distance - (centre + shift)[:, None, None, None]) ** 2).sum(0))
            for label, share in ((2, 1.0), (1, 0.7), (3, 0.45)):
                labels[away <= share * radius] = label
        return labels

    state = rng.bit_generator.state
    truth = tumours(seed % 4, np.zeros(shape, np.uint8), 0)
    rng.bit_generator.state = state
    guess = tumours(max(seed % 4 - seed % 2, 0), np.zeros(shape, np.uint8), 1)
    guess = tumours(seed % 3, guess, 0)
    guess[guess == 3] = 3 if seed % 5 else 1
    return truth, guess


def disturbed(truth: Labels, seed: int) -> Labels:
    """A prediction for a real reference: moved by a voxel, its enhancing part grown, with a false lesion."""
    guess = np.roll(truth, (1, 2, 0), (0, 1, 2))
    guess[ndimage.binary_dilation(guess == 3) & (guess > 0)] = 3
    guess[70:74, 20 + seed : 26 + seed, 100:105] = 2
    return guess


def cases() -> list[tuple[str, Labels, Labels]]:
    pairs = [(f"{seed:05d}", *made_up(seed)) for seed in range(20)]
    for seed, path in enumerate(sorted(REAL_DATA.glob("brats/*/*_seg.nii.gz"))):
        truth = np.asarray(nib.load(path).dataobj).astype(np.uint8)
        truth[truth == 4] = 3
        pairs.append((f"{90000 + seed:05d}", truth, disturbed(truth, seed)))
    return pairs


def as_output(case: tuple[str, Labels, Labels]) -> CaseOutput:
    name, *pair = case
    truth, guess = (
        np.stack([np.isin(labels, values) for values in REGIONS.values()], axis=1) for labels in pair
    )
    number = len(truth)
    return CaseOutput(
        keys=[SliceKey("brats", name, name, index) for index in range(number)],
        group=name,
        mask_probability=guess.astype(np.float32),
        class_probability=np.zeros(number, np.float32),
        masks=truth,
        has_mask=True,
        labels=np.asarray(truth.any(axis=(1, 2, 3)), np.int8),
        pixel_mm=1.0,
        slice_mm=1.0,
        classes=Classes(tuple(REGIONS)),
    )


@pytest.mark.slow
@pytest.mark.skipif(not OFFICIAL.is_file(), reason="needs `make brats`: AGPL, and of other versions of NumPy")
def test_the_scores_are_those_of_the_official_package(tmp_path: Path) -> None:
    masks = cases()
    for name, truth, guess in masks:
        for folder, labels in (("reference", truth), ("prediction", guess)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / folder / f"case-{name}.nii.gz")
    summary = tmp_path / "summary.json"
    words = ["--ref_path", f"{tmp_path}/reference", "--pred_path", f"{tmp_path}/prediction"]
    command = [str(OFFICIAL), "-m", "brats_evaluation.evaluation", "--config", "gli"]
    words += ["--summary_json", str(summary)]
    environment = {**os.environ, "PANOPTICA_CITATION_REMINDER": "False"}
    subprocess.run([*command, *words], check=True, capture_output=True, env=environment)
    official = {each["subject_name"]: each for each in json.loads(summary.read_text())["metrics"]}
    rows = evaluate_slices(map(as_output, masks), compose().evaluation, 0).patients
    for row in rows:
        for region in REGIONS:
            theirs = official[f"case-{row.patient}.nii.gz"][region]
            for ours, key in OUR_KEYS.items():
                value, expected = row.scores[f"{ours}_{region}"], theirs.get(key)
                if expected is None or not np.isfinite(expected):  # we count two empty masks as agreement
                    assert value == (1.0 if key == "global_bin_dsc" else None), (row.patient, region, key)
                else:
                    assert value == pytest.approx(expected, abs=1e-5), (row.patient, region, key)
    assert len(rows) == len(masks) >= 20
