"""The ablation of the evaluate step: the reported network when modalities are missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.console import progress
from slicewise.pipeline.step import Context
from slicewise.steps.outputs import answers, case_output

if TYPE_CHECKING:
    from slicewise.data.stored import StoredCase
    from slicewise.evaluation.choices import Choices
    from slicewise.evaluation.evaluate import ScoredCase
    from slicewise.evaluation.modalities import Subset
    from slicewise.inference.predictor import Predictor


def write_subsets(
    context: Context[Config],
    predictor: "Predictor",
    cases: "Sequence[StoredCase]",
    choices: "Choices",
    missing: tuple[str, ...],
) -> dict[str, Any]:
    """Score the volumes with every subset of their modalities; return Dice and AUC by source and subset.

    `missing` names the tasks that were not trained: they get no figure.
    """
    from slicewise.evaluation.evaluate import pool_cases
    from slicewise.evaluation.modalities import subsets, tabulate, write_modalities

    config = context.config
    scored: dict[Subset, list[ScoredCase]] = {}
    volumes = [case for case in cases if case.has_mask and len(case.labels)]
    for case in progress(volumes, desc="modality subsets", unit="case"):
        for given in subsets(case.presence):
            scored.setdefault(given, []).append(_score(config, predictor, case, given, choices, missing))
    order = sorted(scored, key=lambda given: (sum(given), [not is_given for is_given in given]))
    results = {
        given: replace(pool_cases(scored[given], config.evaluation, config.seed), not_trained=missing)
        for given in order
    }
    synthetic = config.data.synthetic
    return write_modalities(context.out("ablations"), tabulate(results), synthetic=synthetic)


def _score(
    config: Config,
    predictor: "Predictor",
    case: "StoredCase",
    given: "Subset",
    choices: "Choices",
    missing: tuple[str, ...],
) -> "ScoredCase":
    from slicewise.evaluation.evaluate import score_case
    from slicewise.evaluation.modalities import keep_only

    images, settings = keep_only(case.images, given), config.evaluation
    found = answers(predictor, case, images, given, settings.batch_size)
    decision = choices.decision(case.key.source)
    return score_case(case_output(case, found, missing), settings, decision, surfaces=False)
