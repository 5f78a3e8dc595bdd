#!/usr/bin/env python3
"""Measure the gain of choosing thresholds on validation patients, over many resplits of test predictions.

    python scripts/utils/resplit_choices.py WORKSPACE [--draws 200]
    python scripts/utils/resplit_choices.py --generated [--draws 200]

WORKSPACE holds a finished `slicewise run --folds N`. Each fold's model predicts the fold's own test cases. A
draw takes some groups (patients, or families of pictures) as validation set, chooses thresholds on them as
the evaluation does, and scores these on all other groups against the configured defaults. `--generated` draws
scores from normal distributions instead. `all` accepts every choice whatever its gain;
`safe` is the share of draws that lose at most 0.02.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.compose import compose
from slicewise.config.schema import Evaluation
from slicewise.evaluation.mask_threshold import select_candidate
from slicewise.evaluation.slice_probabilities import SliceProbabilities
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.evaluation.threshold_selection import select_class_threshold, youden_threshold
from slicewise.inference.calibration import (
    brier_score,
    expected_calibration_error,
    fit_scaling,
    negative_log_likelihood,
)
from slicewise.inference.postprocess import Postprocessing

Floats = NDArray[np.float64]

FAMILIES: Final = (16, 24, 38)
PATIENTS: Final = (8, 12, 16)
LARGEST_LOSS: Final = 0.02
MEASURES: Final = ("balanced accuracy", "accuracy", "log-likelihood", "Brier", "ECE")


@dataclass(frozen=True)
class Draws:
    """Gains [draw] over the defaults on the groups outside the validation set, and the share that changed."""

    gains: Floats
    adopted: float

    def line(self) -> str:
        safe = float(np.mean(self.gains >= -LARGEST_LOSS))
        return f"{self.adopted:>6.0%}{self.gains.mean():>+9.4f}{self.gains.min():>+9.3f}{safe:>9.1%}"


def resplit(
    slices: SliceProbabilities, size: int, gated: bool, *, draws: int, settings: Evaluation, seed: int = 0
) -> dict[str, Draws]:
    """Choose on `size` groups and score on the others, `draws` times; return the draws of each measure."""
    rng = np.random.default_rng([seed, size])
    draw_gains = []
    for _ in range(draws):
        chosen = np.isin(slices.owner, rng.permutation(slices.num_groups)[:size])
        draw_gains.append(class_gains(_part(slices, chosen), _part(slices, ~chosen), settings, gated=gated))
    return _by_measure(draw_gains)


def _by_measure(draw_gains: list[tuple[Floats, tuple[bool, bool]]]) -> dict[str, Draws]:
    gains = np.array([gain for gain, _ in draw_gains])
    threshold, scaling = np.mean([changed for _, changed in draw_gains], axis=0)
    adopted = (threshold, threshold, scaling, scaling, scaling)
    return {name: Draws(gains[:, place], float(adopted[place])) for place, name in enumerate(MEASURES)}


def class_gains(
    validation: SliceProbabilities, test: SliceProbabilities, settings: Evaluation, *, gated: bool = True
) -> tuple[Floats, tuple[bool, bool]]:
    """Return the gain on the test slices by measure, and whether threshold and calibration were changed."""
    configured = Postprocessing.configured(settings)
    if gated:
        bootstrap = BootstrapSettings(settings.bootstrap_samples, settings.confidence, 0)
        postprocessing = select_class_threshold(configured, validation, settings, bootstrap).postprocessing
    else:
        postprocessing = choose_ungated(configured, validation)
    before, after = (_scores(test, choice, settings) for choice in (configured, postprocessing))
    moved = float(postprocessing.scaling(configured.class_threshold or 0.0))
    threshold_changed = bool(postprocessing.class_threshold != moved)
    return after - before, (threshold_changed, postprocessing.calibrated)


def choose_ungated(configured: Postprocessing, slices: SliceProbabilities) -> Postprocessing:
    """Return the choices without the test of their gain."""
    if len(np.unique(slices.labels)) < 2:
        return configured
    scaling = fit_scaling(slices.labels, slices.probabilities, shifted=True)
    threshold = float(scaling(youden_threshold(slices.labels, slices.probabilities)))
    return Postprocessing(scaling, threshold, configured.mask_threshold)


def _scores(slices: SliceProbabilities, postprocessing: Postprocessing, settings: Evaluation) -> Floats:
    labels, scores = slices.labels, postprocessing.probabilities(slices.probabilities)
    correct = postprocessing.call(scores) == labels
    balanced = np.mean([correct[labels == label].mean() for label in (0, 1)])
    errors = (
        negative_log_likelihood(labels, scores),
        brier_score(labels, scores),
        expected_calibration_error(labels, scores, settings.calibration_bins),
    )
    return np.array([balanced, correct.mean(), *(-error for error in errors)])


def _part(slices: SliceProbabilities, rows: NDArray[np.bool_]) -> SliceProbabilities:
    groups = tuple(np.asarray(slices.groups)[rows])
    return SliceProbabilities(slices.labels[rows], slices.probabilities[rows], groups, slices.is_pictures)


def resplit_masks(
    dice: Floats, size: int, gated: bool, *, draws: int, settings: Evaluation
) -> dict[str, Draws]:
    """Choose mask threshold and post-processing on `size` patients; `dice` is [candidate, patient]."""
    rng, bootstrap = (
        np.random.default_rng(size),
        BootstrapSettings(settings.bootstrap_samples, settings.confidence, 0),
    )
    gains, changed = [], []
    for _ in range(draws):
        order = rng.permutation(dice.shape[1])
        inside, outside = order[:size], order[size:]
        best = int(dice[:, inside].mean(axis=1).argmax())
        row = (
            select_candidate(dice[:, inside], [str(patient) for patient in inside], bootstrap)[0]
            if gated
            else best
        )
        gains.append((dice[row] - dice[0])[outside].mean())
        changed.append(row != 0)
    return {"Dice": Draws(np.array(gains), float(np.mean(changed)))}


GENERATED: Final[dict[str, dict[str, float]]] = {
    "calibrated": {},
    "calibrated, weak": {"distance": 1.3},
    "calibrated, 85 % tumour": {"share": 0.85},
    "overconfident": {"slope": 2.5},
    "shifted by -1.5": {"shift": -1.5},
    "shifted by -3": {"shift": -3.0},
}


def generate(
    rng: np.random.Generator,
    num_groups: int,
    *,
    distance: float = 2.2,
    share: float = 0.6,
    slope: float = 1.0,
    shift: float = 0.0,
) -> SliceProbabilities:
    """Return families of one to three pictures whose logits are calibrated, then stretched and shifted.

    Args:
        rng: source of all random numbers.
        num_groups: families.
        distance: between the means of both classes, in standard deviations.
        share: of the families with tumour.
        slope: by which the calibrated logit is multiplied.
        shift: added to the logit after that.
    """
    tumour = rng.random(num_groups) < share
    owner = np.repeat(np.arange(num_groups), rng.choice([1, 1, 1, 2, 3], num_groups))
    labels = tumour[owner].astype(np.float64)
    noise = 0.8 * rng.normal(size=num_groups)[owner] + 0.6 * rng.normal(size=len(owner))
    logits = (2 * labels - 1) * distance**2 / 2 + distance * noise + np.log(share / (1 - share))
    scores = 1 / (1 + np.exp(-(slope * logits + shift)))
    return SliceProbabilities(labels, scores, tuple(f"{number:04d}" for number in owner), is_pictures=True)


def resample(
    size: int, gated: bool, *, draws: int, settings: Evaluation, scores: dict[str, float]
) -> dict[str, Draws]:
    """Choose on `size` generated families and score on 150 others, `draws` times."""
    rng = np.random.default_rng(size)
    return _by_measure(
        [
            class_gains(generate(rng, size, **scores), generate(rng, 150, **scores), settings, gated=gated)
            for _ in range(draws)
        ]
    )


def read_predictions(
    workspace: Path, settings: Evaluation
) -> Iterator[tuple[str, SliceProbabilities, Floats | None]]:
    """Yield each source's slices, and the Dice [candidate, patient] of its volumes.

    Every test case is predicted by the model of its fold.
    """
    from slicewise.core.files import read_json
    from slicewise.data.split.assignment import Split
    from slicewise.data.store import SliceStore
    from slicewise.evaluation.mask_threshold import MaskGridSearch
    from slicewise.evaluation.slice_probabilities import concatenate_slices, included_slices
    from slicewise.inference.pipeline import Pipeline
    from slicewise.models.checkpoint import load_checkpoint
    from slicewise.workflow.evaluation import case_output

    store = SliceStore(workspace / "data" / "slices")
    slices: dict[str, list[SliceProbabilities]] = {}
    searches: dict[str, MaskGridSearch] = {}
    entries = read_json(workspace / "data" / "processed" / "manifest.json")["entries"]
    for fold in sorted((workspace / "folds").glob("[0-9]*")):
        test = Split.from_json(read_json(fold / "data" / "split" / "split.json")).subset("test")
        checkpoint = load_checkpoint(fold / "checkpoints" / "multitask_joint" / "best_model.pth")
        pipeline = Pipeline([checkpoint], settings, device="cpu")
        for entry in entries:
            if (entry["source"], entry["group"]) not in test:
                continue
            case = store.open(entry["entry"])
            output = case_output(case, pipeline.predict(case), pipeline.tasks)
            slices.setdefault(entry["source"], []).append(included_slices(output))
            if output.has_mask:
                searches.setdefault(entry["source"], MaskGridSearch(settings)).add(output)
    configured = Postprocessing.configured(settings)
    for source, parts in sorted(slices.items()):
        search = searches.get(source)
        yield source, concatenate_slices(parts), None if search is None else search.dice_table(configured)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path, nargs="?", help="of a finished cross-validation")
    parser.add_argument("--generated", action="store_true", help="generated scores instead")
    parser.add_argument("--draws", type=int, default=200)
    args = parser.parse_args(arguments)
    if (args.workspace is None) == (not args.generated):
        parser.error("give WORKSPACE or --generated")
    settings = compose([]).evaluation
    print(f"{'':<26}{'groups':>7} {'choices':<8}{'measure':<18}{'made':>6}{'mean':>9}{'worst':>9}{'safe':>9}")
    studies = (
        _generated_studies(args.draws, settings)
        if args.generated
        else _cross_validation_studies(args, settings)
    )
    for name, sizes, study in studies:
        for size, gated in product(sizes, (True, False)):
            for measure, draws in study(size, gated).items():
                print(
                    f"{name:<26}{size:>7} {'gated' if gated else 'all':<8}{measure:<18}{draws.line()}",
                    flush=True,
                )
    return 0


Study = tuple[str, tuple[int, ...], Callable[[int, bool], dict[str, Draws]]]


def _generated_studies(draws: int, settings: Evaluation) -> Iterator[Study]:
    for name, scores in GENERATED.items():
        yield name, FAMILIES, partial(resample, draws=draws, settings=settings, scores=scores)


def _cross_validation_studies(args: argparse.Namespace, settings: Evaluation) -> Iterator[Study]:
    for source, slices, dice in read_predictions(args.workspace, settings):
        sizes = FAMILIES if slices.is_pictures else PATIENTS
        if slices.num_groups <= max(sizes):
            print(f"{source}: {slices.num_groups} groups are too few to resplit", file=sys.stderr)
            continue
        yield source, sizes, partial(resplit, slices, draws=args.draws, settings=settings)
        if dice is not None:
            yield source, sizes, partial(resplit_masks, dice, draws=args.draws, settings=settings)


if __name__ == "__main__":
    sys.exit(main())
