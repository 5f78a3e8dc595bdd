#!/usr/bin/env python3
"""Write requirements/*.lock: the versions of constraints.txt with the SHA-256 of every file of the index.

A lock holds what its extra adds to the locks that it includes, so that no hash is in two files.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
FOLDER = ROOT / "requirements"
UV = Path(sys.executable).with_name("uv")

BASES = {
    "base": (),
    "runtime": ("base",),
    "pipeline": ("base",),
    "serving": ("pipeline",),
    "raw": ("pipeline",),
    "ray": ("pipeline",),
    "export": ("pipeline", "runtime"),
    "compression": ("export",),
    "remote": ("pipeline",),
    "tune": ("pipeline",),
    "dev": ("serving", "raw", "compression", "remote", "tune", "ray"),
    "bench": ("dev",),
    "fuzz": ("dev",),
    "audit": ("dev",),
    "docs": ("dev",),
    "tracking": ("pipeline",),
}
"""Each extra, and the locks that are installed before it; `base` is what no extra adds to."""
APART = {"brats": "brats-evaluation==0.0.10\npanoptica==2.1.7\n", "snakemake": "snakemake==9.27.1\n"}
"""What has an environment of its own, as it needs other versions than ours"""

_START = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==", re.MULTILINE)


def blocks(text: str) -> dict[str, str]:
    """Split a compiled file into {package: its requirement with hashes}."""
    starts = [(match["name"], match.start()) for match in _START.finditer(text)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    requirements: dict[str, str] = {}
    for (name, start), end in zip(starts, ends, strict=True):
        # A package may come twice, under markers that exclude each other.
        requirements[name] = requirements.get(name, "") + text[start:end].rstrip() + "\n"
    return requirements


def compile_lock(*source: str, text: str | None = None, constrained: bool = True) -> dict[str, str]:
    """Return {package: requirement} of a source for all platforms, at the versions of constraints.txt."""
    command: list[str | Path] = [
        UV,
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version=3.11",
        "--generate-hashes",
    ]
    command += ["--no-emit-index-url", "--no-header", "--no-annotate", *source]
    command += [f"--constraint={CONSTRAINTS}"] if constrained else []
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT)
    return blocks(done.stdout)


def bases_of(extra: str) -> list[str]:
    """Return every lock below an extra."""
    return [name for base in BASES[extra] for name in (*bases_of(base), base)]


def lock(extra: str) -> str:
    """Return the text of one lock."""
    below = bases_of(extra)
    extras = [f"--extra={name}" for name in (*below, extra) if name != "base"]
    known = compile_lock("pyproject.toml", *extras[:-1]) if below else {}
    added = {
        name: block for name, block in compile_lock("pyproject.toml", *extras).items() if name not in known
    }
    return _text([f"-r {name}.lock\n" for name in BASES[extra]], added)


def _text(head: list[str], requirements: dict[str, str]) -> str:
    return "".join(["# Exact versions with hashes. Made by: make locks\n", *head, *requirements.values()])


def main() -> None:
    """Write every lock."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "uv.lock").write_text(_text([], compile_lock("-", text="uv\n")), encoding="utf-8")
    for name, wanted in APART.items():
        (FOLDER / f"{name}.lock").write_text(
            _text([], compile_lock("-", text=wanted, constrained=False)), encoding="utf-8"
        )
    for extra in BASES:
        (FOLDER / f"{extra}.lock").write_text(lock(extra), encoding="utf-8")
        print(f"wrote requirements/{extra}.lock")


if __name__ == "__main__":
    main()
