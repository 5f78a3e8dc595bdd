from slicewise.core import errors


def test_exit_codes_tell_wrong_input_from_a_failed_step() -> None:
    assert errors.ConfigError("").exit_code == errors.UsageError("").exit_code == 2
    assert errors.DataError("").exit_code == errors.TrainingError("").exit_code == 1
