"""A toy pipeline: letters are gathered, joined and counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slicewise.core.files import write_text
from slicewise.engine.fence import Fence
from slicewise.engine.observers import Console, Observer, Observers
from slicewise.engine.plan import Decision, Selection, plan, select
from slicewise.engine.record import RunRecord, StepRecord
from slicewise.engine.runner import Runner
from slicewise.engine.step import Context, Input, Outcome, Step
from slicewise.engine.workspace import Workspace

Config = Mapping[str, Any]


@dataclass
class Toy:
    """A workspace, a configuration that can be changed, and the list of steps that really ran."""

    root: Path
    config: dict[str, Any]
    ran: list[str] = field(default_factory=list)
    break_in: BaseException | None = None
    break_step: str = "join"
    weather: str = ""
    """Something outside every identity that changes an output, as a GPU's last bits may."""
    answer: bool = False
    asked: list[str] = field(default_factory=list)
    observers: dict[str, Observer] = field(default_factory=dict)
    fence: Fence | None = None

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root, self.fence)

    def steps(self) -> tuple[Step[Config], ...]:
        return (
            Step(
                "gather",
                self._body("gather", lambda c: str(c.config["letters"]) + self.weather),
                lambda c: {"letters": c["letters"]},
                homes={"out": "homes/gather"},
                group="gather",
                inputs=self._inputs,
                question=self._question,
            ),
            Step(
                "join",
                self._body("join", lambda c: self._read(c, "gather") + str(c.config["glue"])),
                lambda c: {"glue": c["glue"]},
                needs=("gather",),
                homes={"out": "homes/join", "more": "homes/more"},
                product=("text",),
                group="join",
            ),
            Step(
                "count",
                self._body("count", lambda c: str(len(self._read(c, "join")))),
                lambda c: {"unit": c["unit"]},
                needs=("join",),
                homes={"out": "homes/count"},
                group="count",
            ),
        )

    @staticmethod
    def _inputs(config: Config) -> Mapping[str, Input]:
        if not config["folder"]:
            return {}
        folder = Path(config["folder"])
        return {"folder": Input(folder, lambda: sorted(folder.glob("*.txt")))}

    def _question(self, config: Config, workspace: Workspace) -> str | None:
        return "gather again?" if workspace.home("homes/gather").exists() and config.get("ask") else None

    def _body(
        self, name: str, text: Callable[[Context[Config]], str]
    ) -> Callable[[Context[Config]], Outcome]:
        def run(context: Context[Config]) -> Outcome:
            self.ran.append(name)
            for slot in next(step for step in self.steps() if step.name == name).homes:
                write_text(context.out(slot) / "text", text(context))
            if self.break_in is not None and self.break_step == name:
                raise self.break_in
            return Outcome(metrics={"length": len(text(context))}, notes=("a note",))

        return run

    @staticmethod
    def _read(context: Context[Config], step: str) -> str:
        return (context.home(step, "out") / "text").read_text()

    def plan(self, **flags: Any) -> dict[str, Decision[Config]]:
        workspace = self.workspace
        decisions = plan(self.steps(), self.config, workspace, workspace.load_hashes(), self.select(**flags))
        return {decision.step.name: decision for decision in decisions}

    def actions(self, **flags: Any) -> str:
        return " ".join(decision.action.value for decision in self.plan(**flags).values())

    def select(self, **flags: Any) -> Selection:
        scope = f"--until {flags['until']}" if "until" in flags else "--mode full"
        return select(self.steps(), groups=flags.pop("members", ()), scope=scope, **flags)

    def run(self, **flags: Any) -> list[str]:
        """Run and return the names of the steps that did work."""
        self.ran.clear()
        workspace = self.workspace
        steps = self.steps()
        record = RunRecord(
            self.root / "pipeline_results.json", {"mode": "full"}, {step.name: StepRecord() for step in steps}
        )

        def ask(question: str) -> bool:
            self.asked.append(question)
            return self.answer

        observers = Observers({"console": Console(), **self.observers})
        runner = Runner(steps, self.config, workspace, workspace.load_hashes(), record, ask, observers)
        runner.execute(self.select(**flags))
        return list(self.ran)

    def text(self, home: str) -> str:
        return (self.root / "homes" / home / "text").read_text()


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "workspace", {"letters": "abc", "glue": "-", "unit": "letters", "folder": None})
