from pathlib import Path

from slicewise.data.problems import Problem, describe_problems


def test_equal_findings_are_listed_together_the_worst_first() -> None:
    problems = [Problem(Path(f"val/{number}"), "no mask") for number in range(12)]
    problems += [Problem(Path("b"), "odd", "warning"), Problem(Path("c"), "again", "note")]
    text = describe_problems(reversed(problems))
    lines = text.splitlines()
    assert lines[:3] == ["Cannot be used and left out (12)", "  12 x no mask", "      val/0"]
    assert "      and 2 more" in lines
    assert text.index("Used; please check (1)") < text.index("Set aside on purpose (1)")
    assert describe_problems(problems, shown=None).count("val/") == 12


def test_nothing_wrong_is_said_too() -> None:
    assert describe_problems([]) == "No problem was found.\n"
