import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slicewise.cli.main import main
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError
from slicewise.core.hashing import HashCache
from slicewise.engine.plan import plan
from slicewise.engine.receipt import RECEIPT_NAME
from slicewise.engine.selection import select
from slicewise.engine.step import Context, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import STEPS, pipeline, stored_steps
from slicewise.workflow.folds import in_fold
from slicewise.workflow.step_names import (
    CROSS_VALIDATION,
    FOLD_STEPS,
    STEP_NAMES,
    expand_alias,
    fold_of,
    is_in_range,
    step_names,
    steps_of_mode,
)


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(["split.folds=3"])


def identities(folds: int, config: Config, workspace: Workspace) -> dict[str, str]:
    names = step_names(folds)
    selection = select(names, members=names, scope="test")
    decisions = plan(pipeline(folds), config, workspace, HashCache(), selection)
    return {decision.step.name: decision.identity.fingerprint for decision in decisions}


def test_names_and_steps_agree() -> None:
    assert tuple(step.name for step in pipeline()) == STEP_NAMES == step_names()
    for folds in (2, 5):
        assert tuple(step.name for step in pipeline(folds)) == step_names(folds)
    assert len(step_names(5)) == 2 + 5 * len(FOLD_STEPS) + 1


def test_homes_are_apart() -> None:
    homes = [home for step in pipeline(4) for home in step.homes.values()]
    assert len(set(homes)) == len(homes)
    assert "folds/3/checkpoints/multitask_joint" in homes
    assert "results/cross_validation" in homes


def test_a_plain_name_stands_for_every_fold() -> None:
    assert expand_alias("joint", 2) == ("fold1.train.joint", "fold2.train.joint")
    assert expand_alias("split", 3) == ("fold1.split", "fold2.split", "fold3.split")
    assert expand_alias("evaluation", 2) == ("fold1.evaluate", "fold2.evaluate", CROSS_VALIDATION)
    assert expand_alias("preprocess", 2) == ("preprocess",)
    assert expand_alias("fold2.train.joint", 2) == ("fold2.train.joint",)
    assert expand_alias("demo", 2) == ()
    assert expand_alias("nonsense", 2) == ("nonsense",)


def test_a_plain_name_bounds_every_fold() -> None:
    def left(first: str | None, last: str | None) -> set[str]:
        return {step for step in step_names(2) if is_in_range(step, first, last)}

    shared = {"download", "preprocess", CROSS_VALIDATION}
    assert left(None, None) == left("fold2.split", "fold1.train.joint") == {*step_names(2)}
    assert left(None, "split") == shared | {"fold1.split", "fold2.split"}
    assert left("joint", "training") == shared | {"fold1.train.joint", "fold2.train.joint"}
    assert left("joint", CROSS_VALIDATION) == left("joint", None)
    assert left("joint", None) == left("joint", "training") | {"fold1.evaluate", "fold2.evaluate"}
    assert left("evaluation", "split") == shared


def test_modes_keep_their_meaning() -> None:
    assert steps_of_mode("full", 2) == step_names(2)
    assert steps_of_mode("data-only", 2) == ("download", "preprocess", "fold1.split", "fold2.split")
    assert steps_of_mode("train-eval", 2)[-1] == CROSS_VALIDATION
    assert "preprocess" not in steps_of_mode("train-eval", 2)


def test_the_data_are_prepared_once_for_both_kinds_of_run(config: Config, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    single, folded = identities(0, compose([]), workspace), identities(3, config, workspace)
    assert single["download"] == folded["download"]
    assert single["preprocess"] == folded["preprocess"]
    assert len({folded[f"fold{fold}.split"] for fold in (1, 2, 3)} | {single["split"]}) == 4


def test_another_number_of_folds_is_another_split(config: Config, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    three, four = identities(3, config, workspace), identities(4, compose(["split.folds=4"]), workspace)
    assert three["fold1.split"] != four["fold1.split"]


def test_a_step_within_a_fold_sees_plain_names_and_its_number(config: Config, tmp_path: Path) -> None:
    seen: list[Context[Config]] = []

    def run(context: Context[Config]) -> Outcome:
        seen.append(context)
        return Outcome()

    plain: Step[Config] = replace(STEPS[3], run=run)
    step = in_fold(plain, 2)
    homes = {("preprocess", "processed"): tmp_path / "p", ("fold2.split", "split"): tmp_path / "s"}
    needs = {"preprocess": "a", "fold2.split": "b"}
    step.run(Context(config, Workspace(tmp_path), "f", tmp_path, homes, needs, HashCache()))

    (context,) = seen
    assert context.config.split.fold == 2
    assert context.home("split", "split") == tmp_path / "s"
    assert context.needs == {"preprocess": "a", "split": "b"}
    assert step.needs == ("preprocess", "fold2.split")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["split.folds=1"], "at least 2"), (["split.folds=3", "split.fold=4"], "fold 4 of 3 does not exist")],
)
def test_impossible_folds_are_refused(overrides: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


def test_status_and_verify_look_into_folds_where_there_are_some(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert stored_steps(workspace) == STEPS
    for fold in ("1", "2", "3", "notes"):
        (tmp_path / "folds" / fold).mkdir(parents=True)
    assert [step.name for step in stored_steps(workspace)] == [
        *STEP_NAMES,
        *(name for name in step_names(3) if name not in STEP_NAMES),
    ]


@pytest.mark.parametrize(
    "place", ["folds/1", ".slicewise/shelf/fold1.split/f", ".slicewise/partial/fold1.train.joint/f"]
)
def test_the_first_fold_alone_is_seen_wherever_its_work_is(tmp_path: Path, place: str) -> None:
    """As a cross-validation leaves it that was stopped early."""
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / ".slicewise/shelf/train.joint").mkdir(parents=True)
    listed = [step.name for step in stored_steps(Workspace(tmp_path))]
    assert listed == [*STEP_NAMES, *(name for name in step_names(1) if name not in STEP_NAMES)]


def test_damage_in_the_first_fold_is_found_while_it_is_the_only_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "folds" / "1" / "data" / "split"
    home.mkdir(parents=True)
    (home / RECEIPT_NAME).write_text("{")
    (tmp_path / ".slicewise").mkdir()
    assert main(["verify", "--workspace", str(tmp_path)]) == 1
    assert f"folds/1/data/split/{RECEIPT_NAME} is damaged" in capsys.readouterr().out
    assert main(["status", "--workspace", str(tmp_path)]) == 0
    assert re.search(r"fold1\.split +damaged", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "fold"), [("fold12.train.joint", 12), ("train.joint", 0), ("foldx.split", 0), ("fold1.demo", 0)]
)
def test_the_fold_of_a_step(name: str, fold: int) -> None:
    assert fold_of(name) == fold
