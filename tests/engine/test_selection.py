import pytest

from slicewise.core.errors import ConfigError, UsageError
from slicewise.engine.plan import Request, Selection, expand, select
from slicewise.engine.step import Context, Outcome, Step, check_graph


def _step(
    name: str, *needs: str, home: str = "", group: str = "", aliases: tuple[str, ...] = ()
) -> Step[None]:
    def run(_context: Context[None]) -> Outcome:
        return Outcome()

    homes = {"out": home or f"homes/{name}"}
    return Step(name, run, lambda _: {}, needs=needs, homes=homes, group=group, aliases=aliases)


STEPS = (
    _step("a", group="first"),
    _step("b", group="middle", aliases=("letters",)),
    _step("c", group="middle", aliases=("letters",)),
    _step("d", group="last"),
)


def chosen(selection: Selection) -> str:
    return "".join(step.name for step in STEPS if selection.of(step.name) is Request.AUTO)


def test_mode_range_and_flags_are_combined() -> None:
    assert chosen(select(STEPS, scope="full")) == "abcd"
    assert chosen(select(STEPS, groups=["middle"], scope="part")) == "bc"
    assert chosen(select(STEPS, groups=["first", "middle"], scope="part", start="b")) == "bc"
    assert chosen(select(STEPS, scope="full", start="b", until="c")) == "bc"
    assert chosen(select(STEPS, scope="full", start="letters", until="letters")) == "bc"
    assert chosen(select(STEPS, scope="full", only=["d"])) == "d"


def test_an_alias_stands_for_all_steps_that_have_it() -> None:
    assert expand(["d", "letters"], STEPS) == ["b", "c", "d"]
    assert expand(["all"], STEPS) == ["a", "b", "c", "d"]
    with pytest.raises(UsageError, match="no step is called lettres; did you mean letters"):
        expand(["lettres"], STEPS)


def test_a_long_list_of_steps_is_not_repeated_beside_each_of_the_others() -> None:
    few = select(STEPS, scope="full", only=["a", "d"])
    assert few.scope == "--only a,d"
    steps = tuple(_step(f"fold{number}.train.seg_warmup") for number in range(5))
    names = [step.name for step in steps]
    assert select(steps, scope="full", only=names[:4]).scope == "--only fold0.train.seg_warmup,… (4 steps)"


def test_flags_on_single_steps_win() -> None:
    selection = select(STEPS, groups=["first"], scope="part", skip=["a"], force=["d"])
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
        select(STEPS, scope="full", **flags)  # type: ignore[arg-type]


def test_a_pipeline_is_checked_when_it_is_built() -> None:
    check_graph((_step("a"), _step("b", "a")))
    with pytest.raises(ConfigError, match="b needs a, which stands after it; the steps are b, a"):
        check_graph((_step("b", "a"), _step("a")))
    with pytest.raises(ConfigError, match="b needs z, which does not exist"):
        check_graph((_step("b", "z"),))
    with pytest.raises(ConfigError, match="two steps are called a"):
        check_graph((_step("a"), _step("a")))
    with pytest.raises(ConfigError, match="a and b have the same home x; choose another"):
        check_graph((_step("a", home="x"), _step("b", home="x")))
    with pytest.raises(ConfigError, match="a is a step and a short name of b"):
        check_graph((_step("a"), _step("b", aliases=("a",))))
    with pytest.raises(ConfigError, match="neither a home"):
        check_graph((Step("a", lambda _: Outcome(), lambda _: {}),))
