"""A step of another package: the number of cases and slices of each source, as a table.

Its pyproject.toml offers it:

    [project.entry-points."slicewise.steps"]
    inventory = "step:inventory"
"""

import csv
from collections import Counter

from slicewise.config.schema import Config
from slicewise.core.files import read_json
from slicewise.engine.step import Context, Outcome, Step


def run(context: Context[Config]) -> Outcome:
    """Write inventory.csv from what preprocessing listed."""
    entries = read_json(context.home("preprocess", "processed") / "manifest.json")["entries"]
    cases = Counter(entry["source"] for entry in entries)
    slices = Counter[str]()
    for entry in entries:
        slices[entry["source"]] += entry["num_slices"]
    with (context.out("inventory") / "inventory.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["source", "cases", "slices"])
        table.writerows([source, cases[source], slices[source]] for source in cases)
    return Outcome(metrics={"num_slices": dict(slices)})


def inventory(config: Config) -> Step[Config]:
    """Return the step; a function of the configuration, which may also return None."""
    return Step(
        name="inventory",
        run=run,
        settings=lambda config: {"data.name": config.data.name},
        needs=("preprocess",),
        homes={"inventory": "results/inventory"},
        after="split",
        group="data",
        aliases=("count",),
        highlights={"results/inventory/inventory.csv": f"cases and slices of {config.data.name}"},
    )
