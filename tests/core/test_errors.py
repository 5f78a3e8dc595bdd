"""The exception tree in the docstring is the one in the code."""

import re

from slicewise.core import errors


def test_every_exception_stands_in_the_drawn_tree() -> None:
    assert errors.__doc__
    drawn = set(re.findall(r"\w+Error", errors.__doc__))
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert drawn == defined


def test_exit_codes_tell_wrong_input_from_a_failed_step() -> None:
    assert errors.ConfigError("").exit_code == errors.UsageError("").exit_code == 2
    assert errors.DataError("").exit_code == errors.TrainingError("").exit_code == 1
