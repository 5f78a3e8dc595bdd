"""Configurations that would take for ever, call something, or tell a secret."""

import shutil
from pathlib import Path

import pytest

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("final")
    return Path(shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=ignore))


LAUGHS = "a: &a [ha, ha]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "repeats another value"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "{b: " * 50, "nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!binary aGE=", "tag"),
        ("a: 1\na: 2", "duplicate"),
        ("a: ${oc.env:KAGGLE_KEY}", "environment"),
        ("a: '${oc.env:KAGGLE_KEY}'", "environment"),
        ("x" * (1 << 19), "has 524,288 bytes"),
        ("\x00\x01\x02", "cannot read"),
        ("- just\n- a list", "unknown key"),
    ],
    ids=range(11),
)
def test_a_hostile_file_is_refused_and_named(configs: Path, text: str, message: str) -> None:
    (configs / "recipes" / "tumour.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        compose((), configs)


def test_bytes_that_are_no_text(configs: Path) -> None:
    (configs / "recipes" / "tumour.yaml").write_bytes(b"\xff\xfe\x00garbage\x80")
    with pytest.raises(ConfigError, match=r"tumour\.yaml"):
        compose((), configs)


@pytest.mark.parametrize(
    "override",
    [
        "data.name=${oc.env:KAGGLE_KEY}",
        "data.name=a${oc.env:KAGGLE_KEY,b}",
        "+x=oc.env\ndata.name=1",
        "data.name=" + "[" * 3000,
        "data.name=" + "x" * 20_000,
        "seed=1e999",
        "seed=nan",
        "seed=" + "9" * 5000,
        "data=${x}",
        "~",
        "a.b.c=",
        "seed=choice(1,2)",
        "+=",
        "data@x=lgg",
    ],
)
def test_odd_overrides_are_refused(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert SECRET not in str(caught.value)


def test_the_environment_cannot_be_reached_by_a_detour(
    configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    path = configs / "recipes" / "tumour.yaml"
    path.write_text("# @package _global_\nhow: oc.env\nwhat: '${${how}:KAGGLE_KEY}'\n")
    with pytest.raises(ConfigError) as caught:
        compose((), configs)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "value", [SECRET, "https://someone:secret-word@host/set", "https://host/a?token=abcdef", "KGAT_abcdef"]
)
def test_a_credential_among_the_values_is_refused_without_being_repeated(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    with pytest.raises(ConfigError, match=r"data\.sources\.volumes\.path: a credential") as caught:
        compose([f"data.sources.volumes.path='{value}'"])
    assert value not in str(caught.value)
