"""The documentation lists the metrics that there are."""

import numpy as np
import pytest
from tests.scripts import ROOT, load_script

from slicewise.core.errors import ConfigError
from slicewise.metrics.table import METRICS, MaskPairs, Metric, metrics_of, score_key, score_label


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert load_script("list_metrics").page(page) == page, "python scripts/utils/list_metrics.py updates it"


def test_a_key_has_a_printed_name_with_its_unit() -> None:
    assert score_label(score_key(METRICS["hd95_mm"])) == "HD95 per patient, mm"
    assert score_label("dice_per_tumour_slice") == "Dice per tumour slice"
    assert score_label(score_key(METRICS["roc_auc"])) == "ROC-AUC"
    assert score_label("of_another_package_per_slice") == "of another package per slice"


def test_empty_masks_have_a_value_or_none_as_the_table_says() -> None:
    nothing, side = np.zeros(1, np.int64), 4
    pairs = MaskPairs(nothing, nothing, nothing, np.array([side**2]), side=side)
    for metric in metrics_of("slice"):
        if metric.undefined.startswith("1 where both masks are empty") and "border" not in metric.definition:
            assert metric.of_masks(pairs) == [1], metric.name


def test_a_metric_that_returns_another_number_of_values_is_named() -> None:
    metric = Metric("odd", "odd", "", "slice", "higher", lambda pairs: np.zeros(3), "")
    nothing = np.zeros(2, np.int64)
    with pytest.raises(ConfigError, match=r"metric odd: compute returned shape \(3,\) for \(2,\) masks"):
        metric.of_masks(MaskPairs(nothing, nothing, nothing, nothing))
