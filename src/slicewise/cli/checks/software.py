"""Python, the packages, the encoder weights, experiment tracking and the text encoding."""

import locale
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError, UsageError
from slicewise.engine.workspace import Workspace
from slicewise.workflow.observers import list_observers

_MIN_PYTHON = (3, 11)
_INSTALL = "in a checkout: make run; elsewhere: pip install 'slicewise[serving]'"


def python_version(found: tuple[int, int, int] = sys.version_info[:3]) -> Check:
    """Check the version of Python."""
    text = ".".join(map(str, found))
    if found[:2] < _MIN_PYTHON:
        return Check("python", "bad", text, f"install Python {_MIN_PYTHON[0]}.{_MIN_PYTHON[1]} or newer")
    return Check("python", "good", text)


def packages() -> Check:
    """Compare the installed packages with the requirements, those of the demo included."""
    try:
        requirements = [Requirement(line) for line in requires("slicewise") or ()]
    except PackageNotFoundError:
        return Check("packages", "bad", "slicewise itself is not installed", _INSTALL)
    needed = [r for r in requirements if _applies(r, "")]
    missing = list(_faults(needed))
    if missing:
        return Check("packages", "bad", "; ".join(missing), _INSTALL)
    for_demo = [r for r in requirements if _applies(r, "serving") and r not in needed]
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
        return Check("torch", "bad", f"{found}, which needs torch{conflicting[0]}", advice)
    return Check("torch", "good", found)


def encoder_weights(config: Config) -> Check:
    """Check that the model can be built and its pretrained weights are installed; nothing is downloaded."""
    import torch

    from slicewise.models.multitask import MultitaskModel
    from slicewise.models.pretrained import PACKAGED_WEIGHTS, find_packaged_weights

    model, channels = config.model, len(config.preprocessing.channels)
    try:
        with torch.device("meta"):  # takes no memory
            MultitaskModel(model.model_copy(update={"encoder_weights": None}), config.tasks, channels)
    except ConfigError as error:
        fault, _, advice = str(error).rpartition("; ")
        return Check("weights", "bad", textwrap.shorten(fault, 300), advice)
    if model.encoder_weights is None:
        return Check("weights", "good", f"{model.encoder or model.architecture} starts from random weights")
    if find_packaged_weights(model) is not None:
        return Check("weights", "good", f"{model.encoder_weights} for {model.encoder} is installed")
    return Check(
        "weights",
        "warn",
        f"{model.encoder_weights} for {model.encoder} is downloaded when training starts",
        f"offline: model.encoder_weights=null, or an encoder of {', '.join(PACKAGED_WEIGHTS)}",
    )


def tracking(workspace: Workspace, config: Config) -> Check:
    """Check that the packages of experiment tracking are installed, where it is on."""
    try:
        names = list_observers(config, workspace)
    except UsageError as error:
        fault, _, advice = str(error).partition(": ")
        return Check("tracking", "bad", fault, advice)
    return Check("tracking", "good", ", ".join(names) or "off")


def encoding() -> Check:
    """Check that file names and text are UTF-8."""
    codecs = {sys.getfilesystemencoding().lower(), locale.getpreferredencoding(do_setlocale=False).lower()}
    names = ", ".join(sorted(codecs))
    if {name.replace("-", "") for name in codecs} <= {"utf8"}:
        return Check("encoding", "good", names)
    return Check("encoding", "warn", names, "export PYTHONUTF8=1, or LANG=C.UTF-8")


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _faults(requirements: list[Requirement]) -> Iterator[str]:
    for requirement in requirements:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield f"{requirement.name} is {installed}, needed {requirement.specifier}"
