import pytest

from slicewise.core.errors import UsageError
from slicewise.engine.selection import Request, Selection, select
from slicewise.engine.step import Context, Outcome, Step, check_order

NAMES = ("a", "b", "c", "d")


def chosen(selection: Selection) -> str:
    return "".join(name for name in NAMES if selection.of(name) is Request.AUTO)


def test_mode_range_and_flags_are_combined() -> None:
    assert chosen(select(NAMES, members=NAMES, scope="full")) == "abcd"
    assert chosen(select(NAMES, members=("b", "c"), scope="part")) == "bc"
    assert chosen(select(NAMES, members=("a", "b", "c"), scope="part", start="b")) == "bc"
    assert chosen(select(NAMES, members=NAMES, scope="full", start="b", until="c")) == "bc"
    assert chosen(select(NAMES, members=NAMES, scope="full", only=["d"])) == "d"


def test_a_long_list_of_steps_is_not_repeated_beside_each_of_the_others() -> None:
    few = select(NAMES, members=NAMES, scope="full", only=["a", "d"])
    assert few.scope == "--only a,d"
    names = tuple(f"fold{number}.train.seg_warmup" for number in range(5))
    assert select(names, members=names, scope="full", only=names[:4]).scope == (
        "--only fold0.train.seg_warmup,… (4 steps)"
    )


def test_flags_on_single_steps_win() -> None:
    selection = select(NAMES, members=("a",), scope="part", skip=["a"], force=["d"])
    assert selection.of("a") is Request.SKIP
    assert selection.of("d") is Request.FORCE
    assert selection.of("b") is Request.OUTSIDE


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"only": ["x"]}, "no step is called x; the steps are a, b, c, d"),
        ({"skip": ["a"], "force": ["a"]}, "a: both skipped and forced"),
        ({"start": "c", "until": "b"}, "full: no step is left; leave one"),
    ],
)
def test_contradictions_are_refused(flags: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(NAMES, members=NAMES, scope="full", **flags)  # type: ignore[arg-type]


def _step(name: str, *needs: str, home: str = "") -> Step[None]:
    def run(_context: Context[None]) -> Outcome:
        return Outcome()

    return Step(name, run, lambda _: {}, needs=needs, homes={"out": home or f"homes/{name}"})


def test_a_pipeline_is_checked_when_it_is_built() -> None:
    check_order((_step("a"), _step("b", "a")))
    with pytest.raises(ValueError, match="stands after"):
        check_order((_step("b", "a"), _step("a")))
    with pytest.raises(ValueError, match="repeated"):
        check_order((_step("a"), _step("a")))
    with pytest.raises(ValueError, match="shares a home"):
        check_order((_step("a", home="x"), _step("b", home="x")))
    with pytest.raises(ValueError, match="neither a home"):
        check_order((Step("a", lambda _: Outcome(), lambda _: {}),))
