"""Python and its packages, processor and memory, the workspace, and what the demo needs."""

import locale
import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from slicewise.cli.checks import Check
from slicewise.config.schema import Config
from slicewise.core.disk import MIB, existing_parent
from slicewise.core.machine import available_memory, has_native_bf16, usable_cores
from slicewise.demo.lifecycle import is_free
from slicewise.engine.lock import lock_holder
from slicewise.engine.workspace import Workspace

_MIN_PYTHON = (3, 11)
_INSTALL = "in a checkout: make run; elsewhere: pip install 'slicewise[serving]'"
_TRAINING_MIB = 2560
"""Torch, its libraries and a quick training took 1.5 GiB at their peak; the rest is for the data set."""
_NVIDIA = Path("/dev/nvidiactl")
_SLICES = 160
_BYTES_PER_PIXEL = 9
"""Four float16 modalities and a uint8 mask."""
_RAW_MIB = {"phantom": 14, "brats": 40, "lgg": 14}
"""Raw data of one patient; of downloads, the archive and its contents together."""
_NUM_PATIENTS = {"brats": 369, "lgg": 110}
"""Patients in the data sets of configs/data."""
_OUTPUTS_MIB = {"quick": 600, "baseline": 900, "production": 1600}
"""Three stages with their checkpoints, states and figures."""
_NO_DEMO = Check("good", "not needed: this run does not include the demo")


def python_version(found: tuple[int, int, int] = sys.version_info[:3]) -> Check:
    text = ".".join(map(str, found))
    if found[:2] < _MIN_PYTHON:
        return Check("bad", text, f"install Python {_MIN_PYTHON[0]}.{_MIN_PYTHON[1]} or newer")
    return Check("good", text)


def packages() -> Check:
    """Compare the installed packages with the requirements, those of the demo included."""
    try:
        requirements = [Requirement(line) for line in requires("slicewise") or ()]
    except PackageNotFoundError:
        return Check("bad", "slicewise itself is not installed", _INSTALL)
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": "pipeline"})]
    for_demo = [r for r in requirements if r.marker and r.marker.evaluate({"extra": "serving"})]
    for_demo = [r for r in for_demo if r not in needed and r.name != "slicewise"]
    if missing := list(_faults(needed)):
        return Check("bad", "; ".join(missing), _INSTALL)
    if missing := list(_faults(for_demo)):
        return Check("warn", f"for the demo: {'; '.join(missing)}", _INSTALL)
    return Check("good", f"{len(needed) + len(for_demo)} packages as required")


def _faults(requirements: list[Requirement]) -> Iterator[str]:
    for requirement in requirements:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield f"{requirement.name} is {installed}, needed {requirement.specifier}"


def torch_pair() -> Check:
    """Check that torchvision was built for the torch that is installed."""
    try:
        installed, vision = version("torch"), version("torchvision")
        built_for = [r for r in map(Requirement, requires("torchvision") or ()) if r.name == "torch"]
    except PackageNotFoundError as error:
        return Check("bad", f"{error.name} is not installed", _INSTALL)
    found = f"torch {installed} with torchvision {vision}"
    conflicting = [
        str(r.specifier) for r in built_for if not r.specifier.contains(installed, prereleases=True)
    ]
    if conflicting:
        advice = "install both from one index, for example with: make constraints, then make run"
        return Check("bad", f"{found}, which needs torch{conflicting[0]}", advice)
    return Check("good", found)


def encoding() -> Check:
    """Check that file names and text are UTF-8."""
    codecs = {sys.getfilesystemencoding().lower(), locale.getpreferredencoding(do_setlocale=False).lower()}
    names = ", ".join(sorted(codecs))
    if {name.replace("-", "") for name in codecs} == {"utf8"}:
        return Check("good", names)
    return Check("warn", names, "export PYTHONUTF8=1, or LANG=C.UTF-8")


def cores(config: Config, environment: Mapping[str, str] = os.environ, usable: int | None = None) -> Check:
    """Compare the number of threads with the cores that this process may use."""
    allowed = usable_cores() if usable is None else usable
    threads = config.runtime.num_threads
    found = f"{allowed} of {os.cpu_count()} usable, {threads or f'up to {allowed}'} threads for the model"
    if threads > allowed:
        return Check("warn", found, f"the container may use {allowed}: set runtime.num_threads={allowed}")
    env_threads = environment.get("OMP_NUM_THREADS", "")
    if env_threads.isdecimal() and int(env_threads) > allowed:
        return Check("warn", f"{found}, OMP_NUM_THREADS={env_threads}", f"export OMP_NUM_THREADS={allowed}")
    return Check("good", found)


def memory(config: Config, available: int | None = None) -> Check:
    """Compare the free memory with what a worker and a training need."""
    free = available_memory() if available is None else available
    worker = config.runtime.max_worker_memory_mib * MIB
    found = f"{free / MIB:,.0f} MiB free"
    if free < worker:
        advice = "end other programs, or lower runtime.max_worker_memory_mib if the volumes are small"
        return Check("bad", f"{found}, one worker may need {worker / MIB:,.0f}", advice)
    if free < _TRAINING_MIB * MIB:
        advice = "end other programs, or lower training.batch_size or preprocessing.image_size"
        return Check("warn", f"{found}, training may need {_TRAINING_MIB:,}", advice)
    return Check("good", found)


def accelerator(config: Config, nvidia: Path = _NVIDIA, platform: str = sys.platform) -> Check:
    """Check that the requested device can be used."""
    requested = config.runtime.device
    if requested == "cpu" or (requested == "auto" and not nvidia.exists() and platform != "darwin"):
        return Check("good", f"cpu, {'with' if has_native_bf16() else 'without'} bf16 in hardware")
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested != "auto" and not usable[requested]:
        return Check("bad", f"runtime.device={requested} is not available", "set runtime.device=auto")
    if usable["cuda"]:
        bf16_support = "with" if torch.cuda.is_bf16_supported() else "without"
        return Check("good", f"{torch.cuda.get_device_name()}, {bf16_support} bf16")
    if nvidia.exists():
        advice = "install a torch built for CUDA, or a newer driver; until then the CPU trains"
        return Check("warn", "there is an NVIDIA card that torch cannot use", advice)
    return Check("good", "mps" if usable["mps"] else "cpu")


def writable(workspace: Workspace) -> Check:
    """Write, rename and delete a file in the workspace, or in the nearest folder above it that exists."""
    folder = existing_parent(workspace.root)
    probe = folder / f".slicewise-doctor-{secrets.token_hex(4)}"
    renamed = probe.with_suffix(".renamed")
    try:
        probe.write_text("x")
        case = "case-insensitive" if probe.with_name(probe.name.upper()).exists() else "case-sensitive"
        probe.replace(renamed)
    except OSError as error:
        advice = "make it writable, or choose another --workspace"
        return Check("bad", f"{folder} cannot be written ({error.strerror})", advice)
    finally:
        probe.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)
    return Check("good", f"{folder}, writable, {case}")


def disk(workspace: Workspace, config: Config, free: int | None = None) -> Check:
    """Compare the free disk space with what mode and data need beyond the files that exist."""
    free = shutil.disk_usage(existing_parent(workspace.root)).free if free is None else free
    files = (path for name in ("data", "checkpoints") for path in (workspace.root / name).rglob("*"))
    present = sum(path.stat().st_size for path in files if path.is_file())
    needed = max(0, needed_bytes(config) - present)
    found = f"{free / MIB:,.0f} MiB free, about {needed / MIB:,.0f} more needed for {config.training_mode}"
    if free >= 1.5 * needed:
        return Check("good", found)
    advice = "free some space, choose another --workspace or a smaller --training-mode"
    return Check("bad" if free < needed else "warn", found, advice)


def needed_bytes(config: Config) -> int:
    """Return an estimate of the size of raw data, slices and outputs."""
    needed, scale = _OUTPUTS_MIB[config.training_mode] * MIB, config.scale
    for source in config.data.sources.values():
        generated = getattr(source, "phantom_patients", 0)
        num_patients = generated or _NUM_PATIENTS.get(source.kind, 0)
        share = max(scale.min_patients, round(scale.fraction * num_patients))
        num_used = min(num_patients, scale.num_patients or share)
        on_disk = 0 if source.path else num_used if generated else num_patients
        needed += num_used * _SLICES * _BYTES_PER_PIXEL * config.preprocessing.image_size**2
        needed += on_disk * _RAW_MIB.get(source.kind, 0) * MIB
    return needed


def lock(workspace: Workspace) -> Check:
    """Check that no other command works in the workspace."""
    if holder := lock_holder(workspace.state / "lock"):
        return Check("warn", f"in use by {holder}", "wait with --wait, or watch: slicewise status --watch")
    return Check("good", "free")


def ports(config: Config, *, of_our_demo: Collection[int] = (), wants_demo: bool = True) -> Check:
    """Check that the demo's ports are free, or in use by the demo of this workspace, which a run replaces."""
    if not wants_demo:
        return _NO_DEMO
    requested = {"api_port": config.serving.api_port, "page_port": config.serving.page_port}
    names = ", ".join(map(str, requested.values()))
    busy = {
        key: port
        for key, port in requested.items()
        if port not in of_our_demo and not is_free(port, config.serving.host)
    }
    if busy:
        advice = "end the other program, or: " + " ".join(f"serving.{k}={p + 10}" for k, p in busy.items())
        return Check("bad", f"taken: {', '.join(map(str, busy.values()))}", advice)
    if {*requested.values()} <= {*of_our_demo}:
        return Check("good", f"{names}, in use by this workspace's demo")
    others = ", ".join(map(str, sorted(of_our_demo)))
    return Check("good", f"{names} free" + (f"; this workspace's demo is on {others}" if others else ""))


def supervisor(config: Config, *, wants_demo: bool = True) -> Check:
    """Check that the program that restarts the demo's services is installed."""
    if not wants_demo:
        return _NO_DEMO
    requested = config.serving.supervisor
    if requested != "builtin" and shutil.which("pm2"):
        if shutil.which("node"):
            return Check("good", "pm2")
        return Check("bad", "pm2 without node", "install Node.js, or serving.supervisor=builtin")
    if requested == "pm2":
        advice = "npm install -g pm2, or set serving.supervisor=auto"
        return Check("bad", "serving.supervisor=pm2 is not installed", advice)
    return Check("good", "SliceWise itself")
