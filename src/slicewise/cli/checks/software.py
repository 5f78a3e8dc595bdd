"""Python, the packages, and the way text is encoded."""

import locale
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config, Model
from slicewise.core.errors import ConfigError, UsageError

_MIN_PYTHON = (3, 11)
_INSTALL = "in a checkout: make run; elsewhere: pip install 'slicewise[serving]'"


def python_version(found: tuple[int, int, int] = sys.version_info[:3]) -> Check:
    """Check the interpreter."""
    text = ".".join(map(str, found))
    if found[:2] < _MIN_PYTHON:
        return Check("python", "bad", text, f"install Python {_MIN_PYTHON[0]}.{_MIN_PYTHON[1]} or newer")
    return Check("python", "good", text)


def packages() -> Check:
    """Compare the installed packages with what slicewise asks for, those of the demo included."""
    try:
        wanted = [Requirement(line) for line in requires("slicewise") or ()]
    except PackageNotFoundError:
        return Check("packages", "bad", "slicewise itself is not installed", _INSTALL)
    needed = [r for r in wanted if _applies(r, "")]
    missing = list(_faults(needed))
    if missing:
        return Check("packages", "bad", "; ".join(missing), _INSTALL)
    for_demo = [r for r in wanted if _applies(r, "serving") and r not in needed]
    missing = list(_faults(for_demo))
    if missing:
        return Check("packages", "warn", f"for the demo: {'; '.join(missing)}", _INSTALL)
    return Check("packages", "good", f"{len(needed) + len(for_demo)} packages as required")


def torch_pair() -> Check:
    """Check that torchvision was built for the torch that is installed."""
    try:
        torch, vision = version("torch"), version("torchvision")
        built_for = [r for r in map(Requirement, requires("torchvision") or ()) if r.name == "torch"]
    except PackageNotFoundError as error:
        return Check("torch", "bad", f"{error.name} is not installed", _INSTALL)
    found = f"torch {torch} with torchvision {vision}"
    conflicting = [str(r.specifier) for r in built_for if not r.specifier.contains(torch, prereleases=True)]
    if conflicting:
        advice = "install both from one index, for example with: make constraints, then make run"
        return Check("torch", "bad", f"{found}, which wants torch{conflicting[0]}", advice)
    return Check("torch", "good", found)


def encoder_weights(config: Config) -> Check:
    """Say where the first weights of the encoder come from; nothing is asked on the network."""
    from slicewise.models.pretrained import PACKAGED_WEIGHTS, find_packaged_weights

    model = config.model
    if fault := _model_fault(model):
        return Check("weights", "bad", *fault)
    if model.encoder_weights is None:
        return Check("weights", "good", f"{model.encoder} begins with random weights")
    if find_packaged_weights(model) is not None:
        return Check("weights", "good", f"{model.encoder_weights} for {model.encoder} is installed")
    return Check(
        "weights",
        "warn",
        f"{model.encoder_weights} for {model.encoder} is fetched from a hub when training begins",
        f"without a network: model.encoder_weights=null, or an encoder of {', '.join(PACKAGED_WEIGHTS)}",
    )


def _model_fault(model: Model) -> tuple[str, str] | None:
    """Return what is wrong with the network and what to do, if it cannot be built; no memory is taken."""
    import torch

    from slicewise.models.multitask import MultitaskModel

    try:
        with torch.device("meta"):
            MultitaskModel(model.model_copy(update={"encoder_weights": None}))
    except ConfigError as error:
        found, _, advice = str(error).rpartition("; ")
        return textwrap.shorten(found, 300), advice
    return None


def tracker(config: Config) -> Check:
    """Check that the packages of the experiment tracking are there, where it is on."""
    from slicewise.workflow.tracking import require_packages

    try:
        require_packages(config)
    except UsageError as error:
        found, _, advice = str(error).partition(": ")
        return Check("tracking", "bad", found, advice)
    return Check("tracking", "good", "MLflow" if config.tracking.mlflow else "off")


def encoding() -> Check:
    """Check that file names and text are UTF-8."""
    found = {sys.getfilesystemencoding().lower(), locale.getpreferredencoding(do_setlocale=False).lower()}
    names = ", ".join(sorted(found))
    if {name.replace("-", "") for name in found} <= {"utf8"}:
        return Check("encoding", "good", names)
    return Check("encoding", "warn", names, "export PYTHONUTF8=1, or LANG=C.UTF-8")


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _faults(wanted: list[Requirement]) -> Iterator[str]:
    for requirement in wanted:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} is {found}, wanted {requirement.specifier}"
