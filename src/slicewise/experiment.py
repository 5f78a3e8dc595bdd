"""`Experiment`: a workspace and its settings, from Python.

It does the same as `slicewise run` on the command line:

experiment = Experiment("work", "recipes=binary", "data=shapes", "training.batch_size=4")
experiment.run()
print(experiment.metrics["sources"]["shapes"]["segmentation"]["dice_per_patient"]["value"])
prediction = experiment.pipeline().predict("picture.png")
"""

import csv
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise.cli.main import parse
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.errors import UsageError
from slicewise.core.files import read_json
from slicewise.workflow.checkpoints import final_checkpoint

if TYPE_CHECKING:
    from slicewise.inference.pipeline import Pipeline

METRICS = Path("results/multitask_evaluation/metrics.json")


class Experiment:
    """A workspace with settings; what it returns are the outputs of its last `run`.

    Args:
        workspace: folder of the outputs.
        settings: `key=value` of the configuration, as on the command line.

    Raises:
        ConfigError: a key is unknown, or a value is invalid.
    """

    def __init__(self, workspace: Path | str, *settings: str) -> None:
        self.workspace, self.settings = Path(workspace), settings
        self.config: Config = compose(settings)

    def run(self, *, until: str | None = None) -> None:
        """Run the steps that are out of date, up to the step `until`; by default up to the report.

        Raises:
            SliceWiseError: a step failed, or the command cannot be carried out.
        """
        options = ["--no-input", "--workspace", str(self.workspace), "--until", until or "report"]
        verb, args = parse(["run", *options, *self.settings])
        verb.execute(args)
        self.__dict__.pop("metrics", None)

    @property
    def checkpoint(self) -> Path:
        """The model of the last stage."""
        return self.workspace / final_checkpoint(self.config)

    def history(self, stage: str | None = None) -> list[dict[str, float]]:
        """Return the losses, metrics and learning rate of each epoch of a stage; by default the last one.

        Raises:
            UsageError: the stage is not trained yet, or there is none of this name.
        """
        stage = stage or self.config.final_stage
        path = self.workspace / "checkpoints" / f"{self.config.recipe}_{stage}" / "history.csv"
        if not path.is_file():
            stages = ", ".join(self.config.stages)
            raise UsageError(f"{path} does not exist; run() trains it, of the stages {stages}")
        with path.open(encoding="utf-8", newline="") as stream:
            return [
                {name: float(text) for name, text in row.items() if text} for row in csv.DictReader(stream)
            ]

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The scores on the test cases with their intervals, as `metrics.json` has them."""
        path = self.workspace / METRICS
        if not path.is_file():
            raise UsageError(f"{path} does not exist; run() evaluates the model")
        content: dict[str, Any] = read_json(path)
        return content

    def pipeline(self, **overrides: Any) -> "Pipeline":
        """Return the trained model with all that prediction needs; `overrides` are those of `Pipeline.load`.

        Raises:
            CheckpointError: there is no model yet.
        """
        from slicewise.inference.pipeline import Pipeline

        return Pipeline.load(self.checkpoint, **overrides)
