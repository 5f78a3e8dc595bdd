"""The search space of `slicewise tune`, as it is written in place of a value."""

import pytest

from slicewise.config.search_space import Choice, Parameter, Range, parse_space
from slicewise.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("log(1e-5,1e-2)", Range(1e-5, 1e-2, is_log=True)),
        ("uniform(0, 0.5)", Range(0, 0.5)),
        ("int(2,8)", Range(2, 8, is_int=True)),
        ("int(8,64,8)", Range(8, 64, is_int=True, step=8)),
        ("log_int(4,64)", Range(4, 64, is_log=True, is_int=True)),
        ("choice(resnet18,null)", Choice(("resnet18", "null"))),
        ("choice({bce:1,dice:[1,2]}, 'a,b')", Choice(("{bce:1,dice:[1,2]}", "'a,b'"))),
    ],
)
def test_spaces(text: str, space: Range | Choice) -> None:
    assert parse_space("key", text) == space


@pytest.mark.parametrize("text", ["3", "adam", "{bce:1}", "[a,b]", "a(b", "log", "", "/data/(1)/x"])
def test_a_plain_value_is_no_space(text: str) -> None:
    assert parse_space("key", text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logg(1,2)", r"key=logg\(1,2\): there is no search space logg\(\); did you mean log\(\)\?"),
        ("log(0,1)", r"log\(\) begins above 0"),
        ("log(1,1)", "the first number must be lower"),
        ("uniform(2,1)", r"lower than the second one: uniform\(1,2\)"),
        ("uniform(1)", r"uniform\(LOW,HIGH\)"),
        ("uniform(a,b)", r"for words write choice\(a,b\)"),
        ("uniform(0,inf)", "infinite, NaN or too large"),
        ("int(1,2.5)", r"whole numbers; write uniform\(\)"),
        ("int(1,8,2)", "a whole number of steps"),
        ("log_int(0,8)", "begins at 1"),
        ("log_int(1,8,2)", r"log_int\(LOW,HIGH\)"),
        ("choice(a)", "two or more values"),
        ("choice(a,,b)", "two or more values"),
        ("choice(a,a)", "each once"),
    ],
)
def test_what_is_meant_as_a_space_and_is_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_space("key", text)


def test_values_are_written_as_the_command_line_reads_them() -> None:
    assert Range(1e-5, 1e-2, is_log=True).texts == ("1e-05", "0.01")
    assert Range(2, 8, is_int=True).text(4.0) == "4"
    rates = Parameter("lr", ("a.encoder", "a.decoder"), Range(0.1, 1), "uniform(0.1,1)")
    assert rates.overrides("0.5") == ["a.encoder=0.5", "a.decoder=0.5"]
