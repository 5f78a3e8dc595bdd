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
from slicewise.engine.plan import Request, expand, plan, select
from slicewise.engine.receipt import RECEIPT_NAME
from slicewise.engine.step import Context, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline, stored_steps
from slicewise.workflow.folds import in_fold


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(["split.folds=3"])


def folded(folds: int) -> tuple[Step[Config], ...]:
    return pipeline(compose([f"split.folds={folds}"]))


def names(folds: int) -> list[str]:
    return [step.name for step in folded(folds)]


def identities(config: Config, workspace: Workspace) -> dict[str, str]:
    steps = pipeline(config)
    decisions = plan(steps, config, workspace, HashCache(), select(steps, scope="test"))
    return {decision.step.name: decision.identity.fingerprint for decision in decisions}


def selected(folds: int, **flags: Any) -> set[str]:
    requests = select(folded(folds), scope="test", **flags).requests.items()
    return {name for name, request in requests if request is Request.AUTO}


def test_the_data_are_shared_and_the_rest_is_repeated_and_pooled() -> None:
    assert len(names(5)) == 2 + 5 * len(("split", "seg_warmup", "cls_head", "joint", "evaluate")) + 1
    assert names(2)[:3] == ["download", "preprocess", "fold1.split"]
    assert names(2)[-2:] == ["fold2.evaluate", "cross_validation"]


def test_homes_are_apart() -> None:
    homes = [home for step in folded(4) for home in step.homes.values()]
    assert len(set(homes)) == len(homes)
    assert "folds/3/checkpoints/multitask_joint" in homes
    assert "results/cross_validation" in homes


def test_a_plain_name_stands_for_every_fold() -> None:
    for name, steps in {
        "joint": ["fold1.train.joint", "fold2.train.joint"],
        "split": ["fold1.split", "fold2.split"],
        "evaluation": ["fold1.evaluate", "fold2.evaluate", "cross_validation"],
        "preprocess": ["preprocess"],
        "fold2.train.joint": ["fold2.train.joint"],
    }.items():
        assert expand([name], folded(2)) == steps


def test_a_plain_name_bounds_every_fold() -> None:
    def between(first: str | None, last: str | None) -> set[str]:
        return selected(2, start=first, until=last)

    assert between(None, None) == {*names(2)}
    assert between(None, "split") == {"download", "preprocess", "fold1.split", "fold2.split"}
    assert between("joint", "training") == {"fold1.train.joint", "fold2.train.joint"}
    assert between("joint", "cross_validation") == between("joint", None)
    evaluations = {"fold1.evaluate", "fold2.evaluate", "cross_validation"}
    assert between("joint", None) == between("joint", "training") | evaluations
    assert between("fold2.split", "fold2.train.joint") == {
        f"fold2.{name}" for name in ("split", "train.seg_warmup", "train.cls_head", "train.joint")
    }


def test_groups_keep_their_meaning() -> None:
    assert selected(2, groups=["data"]) == {"download", "preprocess", "fold1.split", "fold2.split"}
    trained = selected(2, groups=["train", "evaluate"])
    assert "cross_validation" in trained
    assert not trained & selected(2, groups=["data"])


def test_the_data_are_prepared_once_for_both_kinds_of_run(config: Config, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    single, three = identities(compose([]), workspace), identities(config, workspace)
    assert single["download"] == three["download"]
    assert single["preprocess"] == three["preprocess"]
    assert len({three[f"fold{fold}.split"] for fold in (1, 2, 3)} | {single["split"]}) == 4


def test_another_number_of_folds_is_another_split(config: Config, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    three, four = identities(config, workspace), identities(compose(["split.folds=4"]), workspace)
    assert three["fold1.split"] != four["fold1.split"]


def test_a_step_within_a_fold_sees_plain_names_and_its_number(config: Config, tmp_path: Path) -> None:
    seen: list[Context[Config]] = []

    def run(context: Context[Config]) -> Outcome:
        seen.append(context)
        return Outcome()

    step = in_fold(replace(folded(0)[3], run=run), 2, ["split", "train.seg_warmup"])
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


def test_status_and_verify_look_at_all_that_ran_here(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert [step.name for step in stored_steps(workspace)] == names(0)
    workspace.remember_steps(folded(0))
    workspace.remember_steps(folded(2))
    workspace.remember_steps(folded(0))
    expected = [*names(0), *(name for name in names(2) if name not in names(0))]
    assert [step.name for step in stored_steps(workspace)] == expected


@pytest.mark.parametrize(
    "damage", ["{", '{"digest": "0", "steps": [["a", {"out": "../elsewhere"}]]}', '{"steps": 3}']
)
def test_a_damaged_list_of_steps_is_found_and_replaced(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path)
    workspace.remember_steps(folded(0))
    (workspace.state / "homes.json").write_text(damage)
    assert workspace.stored_steps() is None
    assert main(["verify", "--workspace", str(tmp_path)]) == 1
    assert ".slicewise/homes.json is damaged" in capsys.readouterr().out
    workspace.remember_steps(folded(0))
    assert main(["verify", "--workspace", str(tmp_path)]) == 0


def test_damage_in_the_first_fold_is_found_while_it_is_the_only_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "folds" / "1" / "data" / "split"
    home.mkdir(parents=True)
    (home / RECEIPT_NAME).write_text("{")
    Workspace(tmp_path).remember_steps(folded(2))
    assert main(["verify", "--workspace", str(tmp_path)]) == 1
    assert f"folds/1/data/split/{RECEIPT_NAME} is damaged" in capsys.readouterr().out
    assert main(["status", "--workspace", str(tmp_path)]) == 0
    assert re.search(r"fold1\.split +damaged", capsys.readouterr().out)
