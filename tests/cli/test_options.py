import argparse
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from slicewise.cli import run
from slicewise.cli.main import VERBS
from slicewise.cli.options import (
    command_line,
    compose_from,
    expand_words,
    resume_command,
    selection_from,
    workspace_from,
)
from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError, UsageError
from slicewise.engine.plan import Request, Selection
from slicewise.steps import pipeline


@pytest.fixture(autouse=True)
def _called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["slicewise"])


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    args = parser.parse_args(expand_words(words))
    args.typed = ["run", *words]
    return args


def selected(*words: str, folds: int = 0) -> Selection:
    return selection_from(parsed(*words), compose([f"split.folds={folds}"]))


def test_a_command_is_told_as_it_was_typed_and_quoted() -> None:
    assert (
        command_line(parsed("--until", "split", "data.name=a b"))
        == "slicewise run --until split 'data.name=a b'"
    )


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("here/bin/slicewise", "here/bin/slicewise run seed=1"),
        ("scripts/run_full_pipeline.py", "here/bin/python scripts/run_full_pipeline.py seed=1"),
    ],
)
def test_a_program_that_the_shell_would_not_find_is_told_with_its_folder(
    given: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here/bin/slicewise", "here/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "here/bin/python"))
    monkeypatch.setattr(sys, "argv", [given])
    assert command_line(parsed("seed=1")) == command
    monkeypatch.setenv("PATH", str(tmp_path / "here/bin"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / given)])
    assert command_line(parsed("seed=1")).startswith(("slicewise run", "python "))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--training-mode", "production", "modes=baseline"), "--training-mode and modes= set the same"),
        (("--folds=3", "split.folds=5"), "--folds and split.folds= set the same"),
    ],
)
def test_what_is_said_twice_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose_from(parsed(*words))
    assert compose_from(parsed("modes=baseline")).training_mode == "baseline"


def test_short_options_are_recorded_as_the_keys_that_they_set() -> None:
    args = parsed("--num-patients", "50", "--batch-size=4", "--lr", "1e-4", "--seed", "2", "--device", "cpu")
    config = compose_from(args)
    assert (config.scale.num_patients, config.training.batch_size) == (50, 4)
    assert (config.seed, config.runtime.device) == (2, "cpu")
    rates = [dict(stage.learning_rates) for stage in config.stages.values()]
    assert rates == [
        {"encoder": 1e-4, "decoder": 1e-4, "head": 0.0},
        {"encoder": 0.0, "decoder": 0.0, "head": 1e-4},
        {"encoder": 1e-4, "decoder": 1e-4, "head": 1e-4},
    ]
    assert command_line(args).startswith(
        "slicewise run scale.num_patients=50 training.batch_size=4 stages.seg"
    )
    words = shlex.split(command_line(args))[2:]
    assert compose_from(parsed(*words)) == config == compose_from(args)


def test_epochs_are_those_of_every_stage_that_the_recipe_has() -> None:
    args = parsed("--epochs", "3", "stages.cls_head=null", "stages.joint.starts_from=seg_warmup")
    assert {name: stage.epochs for name, stage in compose_from(args).stages.items()} == {
        "seg_warmup": 3,
        "joint": 3,
    }
    assert args.typed[1:3] == ["stages.seg_warmup.epochs=3", "stages.joint.epochs=3"]
    with pytest.raises(UsageError, match=r"--epochs and stages\.joint\.epochs=2 set the same"):
        compose_from(parsed("--epochs=3", "stages.joint.epochs=2"))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (
            ("--epochs", "0"),
            r"stages\.joint\.epochs: 0 is invalid: .* \[command line: stages\.joint\.epochs=0\]",
        ),
        (("--batch-size", "four"), r"training\.batch_size: 'four' is invalid"),
        (("--device", "tpu"), r"runtime\.device: 'tpu' is invalid: .*'cpu'"),
    ],
)
def test_the_value_of_a_short_option_is_checked_as_that_of_its_key(
    words: tuple[str, str], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        compose_from(parsed(*words))


@pytest.mark.parametrize("seconds", ["-5", "nan", "soon"])
def test_a_time_to_wait_is_a_number_of_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--wait={seconds}")
    assert "invalid number of seconds value" in capsys.readouterr().err


def test_a_range_is_that_of_every_fold() -> None:
    """Else the splits of five folds would be reached by training four of them."""
    selection = selected("--until", "split", folds=2)
    requested = [step for step, request in selection.requests.items() if request is Request.AUTO]
    assert requested == ["download", "preprocess", "fold1.split", "fold2.split"]
    assert selection.scope == "--mode full --until split"
    with pytest.raises(UsageError, match="--mode full --from joint --until split: no step is left"):
        selected("--from", "joint", "--until", "split", folds=2)


@pytest.mark.parametrize("option", ["--from", "--until", "--only"])
def test_a_step_that_folds_do_not_have_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} report does not exist with folds"):
        selected(option, "report", folds=3)


@pytest.mark.parametrize("option", ["--only", "--from", "--until", "--force"])
@pytest.mark.parametrize("folds", [0, 3])
def test_an_option_that_names_no_step_is_refused(option: str, folds: int) -> None:
    for text in ("", ",", " , "):
        with pytest.raises(UsageError, match=f"{option} names no step; the steps are download"):
            selected(option, text, folds=folds)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "split", "--from", "evaluate"), "leave --from out, or --only"),
        (("--only=split", "--until=split"), "leave --until out, or --only"),
        (("--only", "evaluate", "--mode", "data-only"), "leave --mode out, or --only"),
        (("--skip-joint", "--only", "train.joint"), "train.joint: both skipped and named by --only"),
    ],
)
def test_options_of_which_one_would_be_dropped_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        selected(*words)
    selection = selected("--skip-joint", "--only", "evaluate, report")
    requested = [step for step, request in selection.requests.items() if request is Request.AUTO]
    assert requested == ["evaluate", "report"]


@pytest.mark.parametrize(
    "words", [("--force", "split,train"), ("--force=split,train",), ("--force=split", "--force", "train")]
)
@pytest.mark.parametrize(
    ("finished", "left"),
    [
        ((), None),
        (("download",), None),
        (("split",), "--force train.seg_warmup,train.cls_head,train.joint "),
        (("split", "train.seg_warmup"), "--force train.cls_head,train.joint "),
        (("split", "train.seg_warmup", "train.cls_head", "train.joint"), ""),
    ],
)
def test_what_is_left_of_a_forced_run_forces_no_finished_step(
    words: tuple[str, ...], finished: tuple[str, ...], left: str | None
) -> None:
    args = parsed("--yes", *words, "seed=1")
    command = resume_command(args, {*finished}, pipeline(compose()))
    assert command == (command_line(args) if left is None else f"slicewise run {left}--yes seed=1")


def test_a_fold_is_forced_by_its_own_name() -> None:
    args = parsed("--folds", "2", "--force", "evaluate")
    command = resume_command(args, {"fold1.evaluate"}, pipeline(compose(["split.folds=2"])))
    assert command.startswith("slicewise run --force fold2.evaluate,cross_validation ")


@pytest.mark.parametrize("verb", sorted({*VERBS} - {"benchmark", "compare", "data", "publish"}))
def test_every_verb_takes_the_workspace_from_the_environment(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLICEWISE_WORKSPACE", "/somewhere")
    parser = argparse.ArgumentParser()
    import_module(f"slicewise.cli.{verb.replace('-', '_')}").add_arguments(parser)
    words = {"demo": ["status"], "predict": ["scan.nii.gz"], "test": ["best_model.pth"]}.get(verb, [])
    words = ["shared"] if verb in {"pull", "push"} else words
    words = ["--to", "snakemake"] if verb == "export-plan" else words
    assert parser.parse_args(words).workspace == Path("/somewhere")
    assert parser.parse_args([*words, "--workspace", "here"]).workspace == Path("here")


def test_a_step_option_that_is_repeated_means_all_that_it_named() -> None:
    selection = selected("--force", "split", "--force", "report,evaluate")
    forced = {step for step, request in selection.requests.items() if request is Request.FORCE}
    assert forced == {"split", "report", "evaluate"}
    selection = selected("--only", "split", "--only=report")
    requested = [step for step, request in selection.requests.items() if request is Request.AUTO]
    assert requested == ["split", "report"]


@pytest.mark.parametrize("option", ["--force", "--only"])
def test_a_step_without_folds_is_refused_with_folds(option: str) -> None:
    with pytest.raises(UsageError, match="report does not exist with folds"):
        selected(option, "report", "--folds", "3", folds=3)


def test_the_part_of_a_fold_is_not_for_users_to_set() -> None:
    with pytest.raises(UsageError, match=r"split\.fold is set by the pipeline itself"):
        compose_from(parsed("--folds", "5", "split.fold=2"))


def test_a_home_that_nobody_has_is_wrong_input() -> None:
    with pytest.raises(UsageError, match="~nosuchuser/w: there is no home directory"):
        workspace_from(parsed("--workspace", "~nosuchuser/w"))


def test_a_workspace_whose_name_is_no_text_is_wrong_input(tmp_path: Path) -> None:
    assert workspace_from(parsed("--workspace", str(tmp_path / "größe 数据"))).root == tmp_path / "größe 数据"
    with pytest.raises(UsageError, match="is not UTF-8, and the records of a run are; rename the folder"):
        workspace_from(parsed("--workspace", str(tmp_path / "caf\udce9")))
