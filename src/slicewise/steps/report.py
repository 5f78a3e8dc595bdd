"""The whole run on one page, and the card of its network.

Who made what comes from the receipts of the outputs it shows: a page made again from them has the same bytes.
"""

from typing import TYPE_CHECKING, Any, Final

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.core.errors import WorkspaceError
from slicewise.core.hashing import digest
from slicewise.engine.receipt import Receipt
from slicewise.engine.step import Context, Demand, Outcome, Step
from slicewise.workflow.settings import reproduce_command, results_config
from slicewise.workflow.step_names import DATA_STEPS, STAGE_STEPS

if TYPE_CHECKING:
    from slicewise.reporting.run_info import ResultFolders, RunInfo, StepInfo

_NEEDS: Final = (*DATA_STEPS, *STAGE_STEPS, "evaluate")
_PAGE_MIB: Final = 8
_MEMORY_MIB: Final = 300


def _settings(config: Config) -> dict[str, Any]:
    return flatten_dict(results_config(config))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.reporting.report import write_report

    size = write_report(context.out("report"), _facts(context), _folders(context))
    return Outcome(metrics={"page_bytes": size})


def _folders(context: Context[Config]) -> "ResultFolders":
    from slicewise.reporting.run_info import ResultFolders

    return ResultFolders(
        evaluation=context.home("evaluate", "evaluation"),
        phases=context.home("evaluate", "phases"),
        failures=context.home("evaluate", "failures"),
        gradcam=context.home("evaluate", "gradcam"),
        ablations=context.home("evaluate", "ablations"),
        stages={name.partition(".")[2]: context.home(name, "checkpoint") for name in STAGE_STEPS},
    )


def _facts(context: Context[Config]) -> "RunInfo":
    from slicewise.reporting.run_info import RunInfo

    config, config_values = context.config, results_config(context.config)
    steps = {name: _step_facts(context, name) for name in _NEEDS}
    return RunInfo(
        training_mode=config.training_mode,
        data_name=config.data.name,
        synthetic=config.data.synthetic,
        config=config_values,
        config_fingerprint=digest(config_values),
        reproduce=reproduce_command(config),
        counts=steps["split"].metrics["counts"],
        steps=tuple(steps.values()),
    )


def _step_facts(context: Context[Config], name: str) -> "StepInfo":
    from slicewise.reporting.run_info import StepInfo

    folder = next(home for (step, _), home in context.homes.items() if step == name)
    receipt = Receipt.read(folder)
    if receipt is None:
        raise WorkspaceError(
            f"the receipt in {context.workspace.relative(folder)} is damaged; run `slicewise verify`, "
            "then the same command again"
        )
    report = receipt.report
    return StepInfo(
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
    return Demand(disk_bytes=_PAGE_MIB * MIB, memory_bytes=_MEMORY_MIB * MIB)


REPORT: Step[Config] = Step(
    name="report",
    run=_run,
    settings=_settings,
    needs=_NEEDS,
    homes={"report": "results/report"},
    redirects={"results/report.html": "results/report/report.html"},
    version=9,
    demand=_demand,
)
