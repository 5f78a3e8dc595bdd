"""The batch script of a group of jobs."""

import shlex
import sys
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from slicewise.cluster.plan import Group, PlanFolder
from slicewise.config.schema.cluster import Cluster, JobResources


def render_script(folder: PlanFolder, group: Group, source: Path, cluster: Cluster, digest: str) -> str:
    """Return the script of a group. Its jobs run the copy `source`, and refuse a plan with another digest."""
    resources: JobResources = getattr(cluster, group.resources)
    words = [*shlex.split(cluster.container or ""), cluster.python or sys.executable]
    words += ["-P", "-m", "slicewise.cluster.job", str(folder.workspace.root), str(folder.number)]
    return _template().render(
        name=folder.slurm_name(group.name),
        log=folder.logs / f"{group.name}-%a.log",
        resources=resources,
        partition=resources.partition or cluster.partition,
        cluster=cluster,
        source=str(source),
        workspace=str(folder.workspace.root),
        command=shlex.join([*words, digest, group.name]),
    )


@cache
def _template() -> Template:
    environment = Environment(  # noqa: S701, it renders no HTML
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["quote"] = shlex.quote
    return environment.get_template("job.sh.j2")
