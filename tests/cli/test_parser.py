"""What was mistyped, or is called so in other programs, is named with what is meant here."""

import argparse
import shlex

import pytest

from slicewise.cli.main import VERBS, main


def error_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a refused command prints."""
    try:
        code: object = main(shlex.split(command))
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    return " ".join(capsys.readouterr().err.split())


STAGE = "(STAGE: the name of a stage)"


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("rnu", "'rnu' is not a verb; did you mean run?"),
        ("Plan", "did you mean plan?"),
        ("--mode full", "options and keys follow one: slicewise run --mode"),
        ("run --workspce x", "did you mean --workspace?"),
        ("run --no-inputs", "did you mean --no-input?"),
        ("verify --jsn", "did you mean --json?"),
        ("run --skip-trian", "--skip: no step is called trian; did you mean train?"),
        ("run --mode fulll", "did you mean full?"),
        ("run --training-mode Quick", "did you mean quick?"),
        ("demo stpo", "did you mean stop?"),
        ("srve", "did you mean serve?"),
        ("serve --pge", "did you mean --page?"),
        ("serve --model x", "for --model use --checkpoint"),
        ("serve --page-port 8702", "serving.page_port=VALUE"),
        ("serve serving.prot=3", "serving.prot"),
        ("run --only trian", "--only: no step is called trian; did you mean train?"),
        ("run --folds 2 --force fold1.evalute", "did you mean fold1.evaluate?"),
        ("ablate tumuor", "did you mean tumour?"),
        ("run quick", "did you mean --training-mode quick?"),
        ("run train", "did you mean --only train?"),
        ("run training.batch_size 4", "write training.batch_size=VALUE"),
        ("predict x --lr 1e-3", "stages.STAGE.learning_rates.encoder=VALUE or"),
        ("predict x --lr=1e-3", f"stages.STAGE.learning_rates.head=1e-3 {STAGE}"),
        ("run --learning-rate 1e-3", "for --learning-rate use --lr"),
        ("run --num-epochs 3", "for --num-epochs use --epochs"),
        ("run --batch_size=4", "did you mean --batch-size?"),
        ("run --gpu cuda", "for --gpu use --device"),
        ("run --max-patients 3", "for --max-patients use --num-patients"),
        ("predict x --gpu cuda", "for --gpu use --device"),
        ("predict x --num-threads 2", "runtime.num_threads=VALUE"),
        ("run --training.batch_size 4", "training.batch_size=VALUE"),
        ("run --optimizer sgd", "training.optimizer.name=VALUE"),
        ("run --data lgg", "data=VALUE"),
        ("run --output-dir x", "for --output-dir use --workspace"),
        ("run --resume", "the same command again, which continues a stopped run"),
        ("run batch_size=4", "did you mean training.batch_size or evaluation.batch_size?"),
        ("run trainig.batch_size=4", "trainig: unknown key; did you mean training?"),
        ("run epochs=4", f"did you mean stages.STAGE.epochs {STAGE}?"),
        ("run modes=quik", "did you mean quick? there are: baseline, production, quick"),
        ("run data=LGG", "did you mean lgg? there are: brats, class_folders,"),
        ("run training.precision=fp23", "did you mean fp32?"),
        ("run data.sources.pictures.slot=FLAIR", "did you mean flair?"),
    ],
)
def test_what_may_have_been_meant_is_named(
    command: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert meant in error_of(command, capsys)


@pytest.mark.parametrize("command", ["status --lr 3", "status --qqqq", "run --qqqq", "qqqq"])
def test_what_resembles_nothing_gets_no_advice(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" not in error_of(command, capsys)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_that_works_stands_in_the_help(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers: list[argparse.ArgumentParser] = []
    parse = argparse.ArgumentParser.parse_intermixed_args

    def watched(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
        parsers.append(parser)
        namespace: argparse.Namespace = parse(parser, words)
        return namespace

    monkeypatch.setattr(argparse.ArgumentParser, "parse_intermixed_args", watched)
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    working = set(parsers[0]._option_string_actions)
    lines = [line.strip() for line in shown.partition("\n\n")[2].splitlines()]
    explained = {word.rstrip(",") for line in lines if line.startswith("-") for word in line.split()}
    assert working <= explained
    for line in lines:
        if line.startswith("-"):
            assert line.split()[0].rstrip(",") in working


def test_the_options_without_a_verb_stand_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "slicewise --help | --version" in capsys.readouterr().out
