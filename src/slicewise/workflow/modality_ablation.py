"""The ablation of the evaluate step: the reported network when modalities are missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.console import progress
from slicewise.engine.step import Context
from slicewise.workflow.predictions import case_output, predict_case

if TYPE_CHECKING:
    from slicewise.data.store_entry import StoredCase
    from slicewise.evaluation.modality_ablation import ModalitySubset
    from slicewise.evaluation.per_case import ScoredCase
    from slicewise.evaluation.threshold_selection import ThresholdSelection
    from slicewise.inference.predictor import Predictor


def score_modality_subsets(
    context: Context[Config],
    predictor: "Predictor",
    cases: "Sequence[StoredCase]",
    selection: "ThresholdSelection",
    untrained: tuple[str, ...],
) -> dict[str, Any]:
    """Score the volumes with every subset of their modalities; return Dice and AUC by source and subset.

    `missing` names the tasks that were not trained: they get no figure.
    """
    from slicewise.evaluation.evaluate import pool_cases
    from slicewise.evaluation.modality_ablation import list_subsets, tabulate, write_modality_ablation

    config = context.config
    scored: dict[ModalitySubset, list[ScoredCase]] = {}
    volumes = [case for case in cases if case.has_mask and len(case.labels)]
    for case in progress(volumes, desc="modality subsets", unit="case"):
        for available in list_subsets(case.presence):
            scored.setdefault(available, []).append(
                _score_subset(config, predictor, case, available, selection, untrained)
            )
    order = sorted(
        scored, key=lambda available: (sum(available), [not is_available for is_available in available])
    )
    results = {
        available: replace(
            pool_cases(scored[available], config.evaluation, config.seed), not_trained=untrained
        )
        for available in order
    }
    synthetic = config.data.synthetic
    return write_modality_ablation(context.out("ablations"), tabulate(results), synthetic=synthetic)


def _score_subset(
    config: Config,
    predictor: "Predictor",
    case: "StoredCase",
    available: "ModalitySubset",
    selection: "ThresholdSelection",
    untrained: tuple[str, ...],
) -> "ScoredCase":
    from slicewise.evaluation.modality_ablation import mask_modalities
    from slicewise.evaluation.per_case import score_case

    images, settings = mask_modalities(case.images, available), config.evaluation
    predictions = predict_case(predictor, case, images, available, settings.batch_size)
    postprocessing = selection.postprocessing(case.key.source)
    return score_case(case_output(case, predictions, untrained), settings, postprocessing, surfaces=False)
