"""The whole run on one page, and the card of its network.

Who made what comes from the receipts of the outputs it shows: a page made again from them has the same bytes.
"""

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.provenance import dotted
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError, WorkspaceError
from slicewise.core.fingerprint import digest
from slicewise.core.redact import redact
from slicewise.core.storage import MIB
from slicewise.pipeline.receipt import Receipt
from slicewise.pipeline.step import Context, Demand, Outcome, Step
from slicewise.steps.names import DATA_STEPS, STAGE_STEPS

if TYPE_CHECKING:
    from slicewise.reporting.facts import Folders, RunFacts, StepFacts

_NEEDS: Final = (*DATA_STEPS, *STAGE_STEPS, "evaluate")
_FOLDER: Final = "FOLDER"
_FILE: Final = "FILE"
_SOURCES: Final = ("volumes", "pictures")
_PAGE_MIB: Final = 8
_HELD_MIB: Final = 300


def shown_config(config: Config) -> dict[str, Any]:
    """Return what decides the results: no runtime, serving or tracking, and a word for named folders."""
    tree = config.model_dump(mode="json", exclude={"runtime", "serving", "tracking"})
    for source in _SOURCES:
        if tree["data"][source]["path"] is not None:
            tree["data"][source]["path"] = _FOLDER
    if config.training.start_from is not None:
        tree["training"]["start_from"] = _FILE
    return tree


def reproduce(config: Config) -> str:
    """Return a command that composes the same settings from the configuration files as they are."""
    from slicewise.config.compose import compose

    groups = [f"modes={config.training_mode}", f"data={config.data.name}"]
    try:
        usual = compose(groups)
    except ConfigError:  # no file has this name: every key is spelled out
        groups.pop()
        usual = compose(groups)
    before, after = dotted(shown_config(usual)), dotted(shown_config(config))
    keys = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in after.items()
        if before.get(key) != value
    ]
    words = ["slicewise", "run", "--training-mode", config.training_mode, *groups[1:], *keys]
    return redact(" ".join(map(shlex.quote, words)))


def _settings(config: Config) -> dict[str, Any]:
    return dotted(shown_config(config))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.reporting.write import write_run_report

    size = write_run_report(context.out("report"), _facts(context), _folders(context))
    return Outcome(metrics={"page_bytes": size})


def _folders(context: Context[Config]) -> "Folders":
    from slicewise.reporting.facts import Folders

    return Folders(
        evaluation=context.home("evaluate", "evaluation"),
        phases=context.home("evaluate", "phases"),
        failures=context.home("evaluate", "failures"),
        gradcam=context.home("evaluate", "gradcam"),
        ablations=context.home("evaluate", "ablations"),
        stages={name.partition(".")[2]: context.home(name, "checkpoint") for name in STAGE_STEPS},
    )


def _facts(context: Context[Config]) -> "RunFacts":
    from slicewise.reporting.facts import RunFacts

    config, shown = context.config, shown_config(context.config)
    steps = {name: _step(context, name) for name in _NEEDS}
    return RunFacts(
        training_mode=config.training_mode,
        data_name=config.data.name,
        synthetic=config.data.synthetic,
        config=shown,
        config_fingerprint=digest(shown),
        reproduce=reproduce(config),
        counts=steps["split"].metrics["counts"],
        steps=tuple(steps.values()),
    )


def _step(context: Context[Config], name: str) -> "StepFacts":
    from slicewise.reporting.facts import StepFacts

    folder = next(home for (step, _), home in context.homes.items() if step == name)
    receipt = Receipt.read(folder)
    if receipt is None:
        raise WorkspaceError(
            f"the receipt in {context.workspace.relative(folder)} is damaged; run `slicewise verify`, "
            "then the same command again"
        )
    report = receipt.report
    return StepFacts(
        name=name,
        fingerprint=receipt.fingerprint,
        made_at=report["made_at"],
        seconds=report["duration_seconds"],
        memory_mib=report["peak_memory_mib"],
        commit=report.get("git_commit"),
        command=report.get("command"),
        versions=report["versions"],
        metrics=report["metrics"],
    )


def _demand(_: Context[Config]) -> Demand:
    """Estimate a page with its pictures, and the libraries that read them."""
    return Demand(disk_bytes=_PAGE_MIB * MIB, memory_bytes=_HELD_MIB * MIB)


REPORT: Step[Config] = Step(
    name="report",
    run=_run,
    settings=_settings,
    needs=_NEEDS,
    homes={"report": "results/report"},
    pointers={"results/report.html": "results/report/report.html"},
    version=9,
    demand=_demand,
)
