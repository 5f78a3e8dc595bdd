"""A file with every key, as `slicewise config` prints it, in place of the configuration files."""

from pathlib import Path

import pytest

from slicewise.cli.main import main
from slicewise.config.compose import compose, compose_file
from slicewise.config.export import to_yaml
from slicewise.config.schema.base import plain
from slicewise.core.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "all.yaml"
    path.write_text(to_yaml(plain(compose(["recipes=binary", "data=shapes", "training.batch_size=7"]))))
    return path


def test_a_printed_configuration_is_read_back_as_it_was(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recipes=binary", "data=shapes", "training.batch_size=7"]
    assert compose_file(file) == compose(words)
    assert main(["config", "--config", str(file)]) == 0
    assert capsys.readouterr().out == file.read_text()


def test_single_keys_can_still_be_set(file: Path) -> None:
    config = compose_file(
        file,
        ["training.clip_norm=0.5", "training.mask_loss={bce:2}", "training.start_from=/a b", "seed=3"],
    )
    assert (config.training.clip_norm, config.seed) == (0.5, 3)
    assert config.training.mask_loss == {"bce": 2.0, "dice": 1.0}
    assert config.training.start_from == Path("/a b")


def test_short_options_mean_the_stages_of_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config", str(file), "--epochs", "3", "--lr", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "epochs: 3" in printed
    assert "encoder: 0.5" in printed


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data=lgg", "a choice such as data= or recipes= comes too late"),
        ("recipes=tumour", "comes too late"),
        ("training.batchsize=3", r"unknown key; did you mean training\.batch_size\?"),
        ("training.batch_size=none", r"training\.batch_size"),
        ("stages.train=null", "there is no stage"),
        ("~training.batch_size", "missing; every key needs a value"),
    ],
)
def test_invalid_keys(file: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_file(file, [word])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no keys"),
        ("- a\n- b\n", "holds no keys"),
        ("a: &x 1\nb: *x\n", "repeats another value"),
        ("a: ${oc.env:HOME}\n", "reads the environment"),
        ("a: !!python/name:os.system\n", "is not allowed"),
        ("recipe: [\n", "cannot read"),
        ("recipe: x\n", "missing; every key needs a value"),
    ],
)
def test_an_unusable_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        compose_file(path)
    assert "settings.yaml" in str(caught.value)


def test_a_file_names_the_mode_itself(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", str(file), "--training-mode", "quick"]) == 2
    assert "--config names the mode itself" in capsys.readouterr().err
    assert main(["plan", "--config", str(file.with_name("none.yaml"))]) == 2
    assert "cannot read" in capsys.readouterr().err
