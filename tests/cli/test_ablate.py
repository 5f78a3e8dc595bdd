"""Recipes run one after the other in one workspace; the first is there already, the others are trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TINIEST, Pipeline

from slicewise.cli.main import main
from slicewise.core.files import read_json
from slicewise.domain.tables import ComparisonRow, read_rows
from slicewise.engine.receipt import Receipt
from slicewise.models.checkpoint import load_checkpoint

RECIPES = ("tumour", "segmentation_only", "classification_only")
HOMES = ("results/multitask_evaluation", "checkpoints/multitask_joint", "results/ablations")
TASKS_OF = {"segmentation_only": ["segmentation"], "classification_only": ["classification"]}


@dataclass(frozen=True)
class Ablated:
    """`first`: fingerprints before the command; `stopped`: what the record said after the interruption."""

    pipeline: Pipeline
    first: dict[str, str]
    stopped: Any
    output: str
    rows: list[ComparisonRow]

    def row(self, recipe: str, source: str, score: str) -> ComparisonRow:
        (found,) = [r for r in self.rows if (r.name, r.source, r.score) == (recipe, source, score)]
        return found

    def evaluation(self, recipe: str) -> Path:
        """Return the evaluation of a recipe, at home or on the shelf."""
        known = read_json(self.pipeline.workspace / "results" / "recipes" / "recipes.json")["runs"]
        (fingerprint,) = [run["evaluate"] for run in known if run["recipe"] == recipe]
        shelf = self.pipeline.workspace / ".slicewise" / "shelf" / "evaluate" / fingerprint[:16]
        home = self.pipeline.workspace / "results" / "multitask_evaluation"
        return shelf / "evaluation" if (shelf / "evaluation").exists() else home


def interrupted(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Ablated:
    """Interrupt the command while the second recipe is evaluated, and give it again."""
    pipeline = Pipeline(tmp_path_factory.mktemp("ablated"), TINIEST)
    assert pipeline.run("--until", "report") == 0
    first = {home: fingerprint(pipeline, home) for home in HOMES}
    words = ("ablate", "--no-input", "--seeds", "1", *RECIPES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slicewise.workflow.evaluation.write_report", interrupted)
        assert pipeline.call(*words) == 130
    stopped = pipeline.record
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("slicewise.cli.ablate.say", lambda text="", *_: lines.append(text))
        patch.setattr("slicewise.engine.observers.say", lambda text="", *_: lines.append(text))
        assert pipeline.call(*words) == 0
    table = read_rows(pipeline.workspace / "results" / "recipes" / "recipes.csv", ComparisonRow)
    return Ablated(pipeline, first, stopped, "\n".join(lines), table)


def fingerprint(pipeline: Pipeline, home: str) -> str:
    receipt = Receipt.read(pipeline.workspace / home)
    assert receipt is not None
    return receipt.fingerprint


def ran(text: str, recipe: str) -> list[str]:
    """Return the steps that ran for a recipe, from what was said."""
    own = text.partition(f"\n{recipe}, seed 0 (")[2].partition(", seed 0")[0]
    return [words[0] for line in own.splitlines() if len(words := line.split()) > 1 and words[1] == "run"]


def test_a_stopped_command_names_itself_and_goes_on_where_it_was(ablated: Ablated) -> None:
    assert ablated.stopped["status"] == "interrupted"
    assert ablated.stopped["continue_with"].startswith("slicewise ablate")
    assert ablated.stopped["steps"]["train.joint"]["status"] == "completed"
    assert ran(ablated.output, "tumour") == []
    assert ran(ablated.output, "segmentation_only") == ["evaluate"]
    assert ran(ablated.output, "classification_only") == [
        "train.seg_warmup", "train.cls_head", "train.joint", "evaluate",
    ]  # fmt: skip


def test_the_first_recipe_is_at_home_at_the_end(ablated: Ablated) -> None:
    assert {home: fingerprint(ablated.pipeline, home) for home in HOMES} == ablated.first
    assert "those of tumour, seed 0" in ablated.output
    assert main(["verify", "--workspace", str(ablated.pipeline.workspace)]) == 0


def test_scores_are_those_of_each_recipe_and_differences_are_to_the_first(ablated: Ablated) -> None:
    for recipe in RECIPES:
        metrics = read_json(ablated.evaluation(recipe) / "metrics.json")
        assert metrics["tasks"] == TASKS_OF.get(recipe, ["segmentation", "classification"])
        phantom = metrics["sources"]["phantom"]
        dice, auc = (ablated.row(recipe, "phantom", name) for name in ("dice_per_patient", "roc_auc"))
        assert dice.value == (
            pytest.approx(phantom["segmentation"]["dice_per_patient"]["value"], abs=1e-6)
            if phantom["segmentation"]
            else None
        )
        assert (auc.value is None) == (phantom["classification"] is None)
    first, other = (
        ablated.row(name, "phantom", "dice_per_patient") for name in ("tumour", "segmentation_only")
    )
    assert first.value is not None
    assert other.value is not None
    gain = ablated.row("segmentation_only - tumour", "phantom", "dice_per_patient")
    assert gain.value == pytest.approx(other.value - first.value, abs=2e-6)
    assert ablated.row("segmentation_only", "phantom", "roc_auc").note == "not trained"
    assert ablated.row("classification_only", "phantom", "dice_per_patient").note == "not trained"


def test_the_gain_of_the_last_stage_is_in_the_table(ablated: Ablated) -> None:
    for score, base in (("dice_per_patient", "seg_warmup"), ("roc_auc", "cls_head")):
        assert ablated.row(f"tumour: joint - {base}", "phantom", score).value is not None
    scores = {row.score for row in ablated.rows if row.variant == "segmentation_only: joint"}
    assert "roc_auc" not in scores


def test_an_absent_task_has_no_figure_anywhere(ablated: Ablated) -> None:
    folder = ablated.evaluation("segmentation_only")
    assert "ROC-AUC" not in (folder / "report.txt").read_text()
    table = (folder / "slices.csv").read_text().splitlines()
    place = table[0].split(",").index("probability")
    assert {line.split(",")[place] for line in table[1:]} == {"0.5"}
    gradcam = folder.parent / "gradcam"
    assert [path.name for path in gradcam.iterdir() if not path.name.startswith(".")] == []
    masks = ablated.evaluation("classification_only")
    for source in read_json(masks / "metrics.json")["sources"].values():
        assert source["segmentation"] is None
    assert "Dice" not in (masks / "report.txt").read_text().partition("Empty masks")[0]


def test_checkpoints_hold_the_tasks_of_the_recipe(ablated: Ablated) -> None:
    for recipe in RECIPES:
        calibration = read_json(ablated.evaluation(recipe) / "calibration.json")
        weights_digest = calibration["made_for"]["weights"]
        found = [load_checkpoint(path) for path in ablated.pipeline.workspace.rglob("best_model.pth")]
        (joint_model,) = [
            checkpoint
            for checkpoint in found
            if checkpoint.stage == "joint" and checkpoint.weights_digest == weights_digest
        ]
        assert [*joint_model.tasks.names] == TASKS_OF.get(recipe, ["segmentation", "classification"])


def test_compare_leaves_out_what_one_of_them_never_learned(
    ablated: Ablated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "compare.json"
    folders = [str(ablated.evaluation(recipe)) for recipe in RECIPES[:2]]
    assert main(["compare", *folders, "--json", str(found)]) == 0
    output = json.loads(found.read_text())
    assert {row["score"] for row in output["rows"] if row["minus"]} & {"roc_auc", "slice_accuracy"} == set()
    assert "dice_per_patient" in {row["score"] for row in output["rows"] if row["minus"]}
    assert "B has no classification: not compared" in output["notes"]


def test_page_and_card_of_a_single_task_say_so(ablated: Ablated) -> None:
    words = ("--no-input", "--until", "report", "recipes=segmentation_only")
    assert ablated.pipeline.run(*words) == 0
    assert ablated.pipeline.ran() == ["report"]
    folder = ablated.pipeline.workspace / "results" / "report"
    page, card = ((folder / name).read_text() for name in ("report.html", "model_card.md"))
    for text in (page, card):
        assert "ROC-AUC" not in text
        assert "Grad-CAM" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name at least one recipe"),
        (("tumour", "tumour"), "named twice"),
        (("nonsense",), "no recipe is called nonsense; there are: binary, brats_cpu"),
        (("tumour", "recipes=lgg_cpu"), "without recipes="),
        (("tumour", "--folds", "3"), "one split"),
        (("tumour", "--seeds", "0"), "from 1 on"),
        (("tumour", "--seeds", "2", "seed=3"), "sets seed itself"),
        (("lgg_cpu+tumour", "training.batch_size=0"), "command line: training.batch_size=0"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", "--workspace", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_each_plan_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = tmp_path / "empty"
    words = ["ablate", "--dry-run", "--seeds", "2", "tumour", "--workspace", str(workspace)]

    assert main(words) == 0

    output = capsys.readouterr().out
    assert output.index("tumour, seed 0 (1 of 2)") < output.index("tumour, seed 1 (2 of 2)")
    assert output.count("Plan for quick on phantom") == 2
    assert output.count("train.joint") >= 2
    assert output.rstrip().endswith("a step that runs share runs once")
    assert not workspace.exists()
