"""What a step is about to need is compared with what is there, before it starts."""

from dataclasses import dataclass, field, replace

import pytest
from tests.engine.conftest import Config, Toy

from slicewise.core.errors import ResourceError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.step import Context, Demand, Step

HUGE = 1 << 60


@dataclass
class Hungry(Toy):
    """The toy, whose second step needs what `demand` says."""

    demand: Demand = field(default=Demand())

    def steps(self) -> tuple[Step[Config], ...]:
        def demand(_: Context[Config]) -> Demand:
            return self.demand

        return tuple(
            replace(step, demand=demand) if step.name == "join" else step for step in super().steps()
        )


@pytest.fixture
def hungry(toy: Toy) -> Hungry:
    return Hungry(toy.root, toy.config)


def test_a_disk_that_is_too_small_is_told_before_the_work(hungry: Hungry) -> None:
    hungry.demand = Demand(disk_bytes=HUGE)
    with pytest.raises(WorkspaceError, match=r"join needs about [\d,]+ MiB and .* has [\d,]+ free"):
        hungry.run()
    assert hungry.ran == ["gather"]
    hungry.demand = Demand()
    assert hungry.run() == ["join", "count"]


def test_memory_for_not_even_one_unit_is_refused(hungry: Hungry) -> None:
    hungry.demand = Demand(memory_bytes=HUGE, least_memory_bytes=HUGE, remedy="set x=1")
    with pytest.raises(ResourceError, match=r"join needs at least .*; set x=1"):
        hungry.run()
    assert hungry.ran == ["gather"]


def test_memory_that_may_not_suffice_is_warned_of_and_tried(
    hungry: Hungry, capsys: pytest.CaptureFixture[str]
) -> None:
    hungry.demand = Demand(disk_bytes=3 << 20, memory_bytes=HUGE, remedy="set x=1")
    assert hungry.run() == ["gather", "join", "count"]
    assert "join may need" in capsys.readouterr().out
    record = read_json(hungry.root / "pipeline_results.json")
    assert record["steps"]["join"]["estimated_mib"] == {"disk": 3, "memory": HUGE >> 20}


def test_a_step_that_runs_out_of_memory_says_what_helps(hungry: Hungry) -> None:
    hungry.demand = Demand(memory_bytes=5 << 20, remedy="set x=1")
    hungry.break_in = MemoryError("Unable to allocate 8 PiB")
    with pytest.raises(
        ResourceError, match=r"join ran out of memory .*about 5 MiB were expected.*or set x=1"
    ):
        hungry.run()
    record = read_json(hungry.root / "pipeline_results.json")
    assert record["steps"]["join"]["error"]["type"] == "ResourceError"
