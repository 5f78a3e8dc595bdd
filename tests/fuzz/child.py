"""One target under atheris (libFuzzer): `python -m tests.fuzz.child TARGET SECONDS PATIENCE MIB FOLDER`.

A finding is written once per place in the code, and the search continues; a hang ends the process.
"""

import hashlib
import json
import logging
import resource
import sys
import tempfile
import traceback
import warnings
from importlib import import_module
from pathlib import Path

import atheris

READERS = {
    "nifti": ("data.cases", "data.sources.brats", "imaging.volume"),
    "nifti-packed": ("data.cases", "imaging.volume"),
    "picture": ("imaging.io.image2d",),
    "slices": ("data.cases", "data.sources.lgg"),
    "archive": ("data.download.archive",),
    "config-file": ("config.compose", "config.export"),
    "override": ("config.compose", "config.export"),
    "checkpoint": ("models.checkpoint", "training.state"),
    "checkpoint-pickle": ("models.checkpoint", "training.state"),
    "kaggle-json": ("data.download.kaggle",),
    "api-body": ("serving.api.app", "serving.api.uploads"),
    "api-file": ("serving.api.app", "serving.api.uploads"),
    "api-address": ("serving.api.app", "serving.api.uploads"),
}
"""Modules that a target imports when called; here they are imported with instrumentation."""
HEAVY = ("torch", "segmentation_models_pytorch", "fastapi.testclient", "cv2", "hydra")
FOREIGN = ("slicewise", "nibabel", "PIL", "yaml", "zipfile", "python_multipart")

for heavy in HEAVY if sys.argv[1].startswith(("checkpoint", "api")) else ():
    import_module(heavy)  # before: to instrument them would take minutes
with atheris.instrument_imports(include=list(FOREIGN)):
    sys.modules.pop("zipfile", None)  # atheris itself has imported it
    for reader in READERS.get(sys.argv[1], ()):
        import_module(f"slicewise.{reader}")
    from tests.fuzz.targets import TARGETS, Target

MIB = 1 << 20


def limit_memory(mib: int) -> None:
    """Limit the address space to that of the imports plus `mib`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def note(folder: Path, target: Target, data: bytes, error: BaseException) -> None:
    """Write one finding, named by the exception and the innermost function of SliceWise."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{frame.filename}:{frame.name}" for frame in frames if "slicewise" in frame.filename]
    place = f"{type(error).__name__} {ours[-1] if ours else ''}"
    path = folder / "findings" / f"{hashlib.sha256(place.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        text = "".join(traceback.format_exception(error))[-4000:]
        path.write_text(
            json.dumps({"target": target.name, "place": place, "input": data.hex(), "error": text})
        )


def main(name: str, seconds: str, patience: str, mib: str, folder: str) -> None:
    """Search for a while."""
    target, home = TARGETS[name], Path(folder)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    for data in target.seeds():
        (home / "corpus" / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    box = Path(tempfile.mkdtemp(dir=home))

    def check(data: bytes) -> None:
        try:
            target.check(data, box)
        except Exception as error:
            note(home, target, data, error)

    check(target.seeds()[0])  # imports and caches, before memory is limited
    limit_memory(int(mib))
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={patience}",
        "-rss_limit_mb=0",
        "-max_len=16384",
        "-seed=1",
    ]
    options += ["-print_final_stats=1", "-detect_leaks=0", f"-artifact_prefix={home}/findings/"]
    atheris.Setup([sys.argv[0], str(home / "corpus"), *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
