from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slicewise.data.problems import Problem, describe_problems

PROBLEMS = st.builds(
    Problem,
    st.text("abc/. é", min_size=1).map(Path),
    st.text(min_size=1),
    st.sampled_from(["error", "warning", "note"]),
)


@given(PROBLEMS)
def test_json_gives_the_same_problem_back(problem: Problem) -> None:
    assert Problem.from_json(problem.to_json()) == problem


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
