import argparse
import sys

import pytest

from slicewise.cli import run
from slicewise.cli.options import command_line, continuation


@pytest.fixture(autouse=True)
def _called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["slicewise"])


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    args = parser.parse_args(words)
    args.typed = ["run", *words]
    return args


def test_a_command_is_told_as_it_was_typed_and_quoted() -> None:
    assert (
        command_line(parsed("--until", "split", "data.name=a b"))
        == "slicewise run --until split 'data.name=a b'"
    )


@pytest.mark.parametrize(
    "words", [("--force", "split,train"), ("--force=split,train",), ("--force=all", "--force", "split,train")]
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
    told = continuation(args, {*finished}, folds=0)
    assert told == (command_line(args) if left is None else f"slicewise run {left}--yes seed=1")


def test_a_fold_is_forced_by_its_own_name() -> None:
    args = parsed("--folds", "2", "--force", "evaluate")
    told = continuation(args, {"fold1.evaluate"}, folds=2)
    assert told.startswith("slicewise run --force fold2.evaluate,cross_validation ")
