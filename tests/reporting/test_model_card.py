import csv
from dataclasses import replace
from typing import Any

import yaml
from tests.reporting.conftest import Made

from slicewise.core.files import read_json
from slicewise.reporting.report import render_card


def front_matter(card: str) -> tuple[dict[str, Any], str]:
    assert card.startswith("---\n")
    matter, _, text = card[4:].partition("\n---\n")
    found = yaml.safe_load(matter)
    assert isinstance(found, dict)
    return found, text


def test_the_front_matter_holds_the_metrics_of_the_run(made: Made) -> None:
    head, _ = front_matter((made.home / "model_card.md").read_text())
    assert head["license"] == "mit"
    assert head["pipeline_tag"] == "image-segmentation"
    assert "synthetic-data" in head["tags"]
    metrics = read_json(made.folders.evaluation / "metrics.json")
    told = {
        (result["dataset"]["type"], score["type"]): score
        for result in head["model-index"][0]["results"]
        for score in result["metrics"]
    }
    dice = metrics["sources"]["phantom"]["segmentation"]["dice_per_patient"]
    assert told["phantom", "dice_per_patient"]["value"] == dice["value"]
    for source, found in metrics["sources"].items():
        for name in ("roc_auc", "accuracy", "balanced_accuracy"):
            estimate = found["classification"][name]
            assert told[source, name]["value"] == estimate["value"]
            assert told[source, name]["args"].get("interval") == estimate["interval"]
    assert ("phantom_pictures", "dice_per_patient") not in told


def test_the_text_says_what_it_is_not_for_and_how_it_was_made(made: Made) -> None:
    _, text = front_matter((made.home / "model_card.md").read_text())
    for heading in ("Intended use", "Out of scope", "Data", "Metrics", "Limits", "Training procedure"):
        assert f"\n## {heading}\n" in text
    assert "Not a medical device" in text
    assert "**Synthetic data.**" in text
    assert "majority class" in text
    assert f"\n    {made.run.reproduce}\n" in text
    with (made.folders.stages["joint"] / "history.csv").open(newline="") as history:
        epochs = max(int(row["epoch"]) for row in csv.DictReader(history))  # it may stop early
    assert f"| train.joint | cls_head | {epochs} |" in text
    rows = [line for line in text.splitlines() if line.startswith("| phantom")]
    assert {line.count("|") for line in rows} == {5, 6}


def test_a_card_of_real_patients_calls_nothing_synthetic(made: Made) -> None:
    card = render_card(replace(made.run, synthetic=False, data_name="lgg"), made.folders.evaluation)
    head, text = front_matter(card)
    assert "synthetic-data" not in head["tags"]
    assert "ynthetic" not in text


def test_a_name_cannot_leave_its_place(made: Made) -> None:
    name = "x\n---\nlicense: none <img src=x>"
    head, text = front_matter(render_card(replace(made.run, data_name=name), made.folders.evaluation))
    assert head["license"] == "mit"
    assert head["model-index"][0]["results"][0]["dataset"]["name"].startswith(name)
    assert "<img" not in text
