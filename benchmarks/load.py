"""`python -m benchmarks.load --checkpoint MODEL`: clients against the API and a plain handler.

Pictures and volumes at several numbers of clients, each against the API and the plain handler in turn; then,
by option, mixed load with the slope of the memory, a flood, malformed bodies, and a kill.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import nibabel as nib
import numpy as np
import psutil

from slicewise.config.compose import compose
from slicewise.data.phantom.patients import write_patient
from slicewise.demo.lifecycle import is_free
from slicewise.imaging.io.image2d import to_png
from slicewise.serving import HOST

_STARTUP_SECONDS: Final = 120.0
_MIB: Final = 1 << 20
_MALFORMED: Final = (
    b"",
    b"--x\r\n",
    b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x89PNG\r\n\x1a\n\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="t1"; filename="a.nii.gz"\r\n\r\n\x1f\x8b\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="nothing"\r\n\r\n1\r\n--x--\r\n',
)
"""Bodies that are no form, or hold no image; random bytes come after them"""


@dataclass(frozen=True)
class Request:
    """A request that is sent again and again."""

    path: str
    files: dict[str, tuple[str, bytes]]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """Latencies in seconds of successful requests, and how many had which status."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    duration: float = 0.0

    def row(self) -> dict[str, float]:
        """Return requests per second, and the percentiles of the latency."""
        if not self.seconds:
            return {"per_second": 0.0}
        p50, p95, p99 = np.percentile(self.seconds, (50, 95, 99)).tolist()
        return {"per_second": len(self.seconds) / self.duration, "p50": p50, "p95": p95, "p99": p99}


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[psutil.Process]:
    """Run a server until the block ends; it is ready when the block begins."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_health(process, port)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)


def _await_health(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://{HOST}:{port}/healthz", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start")


def our_command(checkpoint: Path, port: int, folder: Path) -> list[str]:
    """Return the command of the API with the configured limits."""
    config = compose([f"serving.api_port={port}"])
    return [
        *(sys.executable, "-m", "slicewise.serving.api.app", "--checkpoint", str(checkpoint)),
        *("--device", "cpu", "--cases", str(folder / "none"), "--results", str(folder / "results")),
        *("--serving", config.serving.model_dump_json()),
        *("--settings", config.evaluation.model_dump_json()),
    ]


def requests(folder: Path) -> dict[str, Request]:
    """Return a picture and a volume of a generated patient."""
    patient = write_patient(folder / "patients", 1, 0)
    path = next(patient.glob("*flair.nii.gz"))
    slices = np.asarray(nib.load(path).dataobj, np.float32)
    middle = slices[:, :, slices.shape[2] // 2]
    picture = to_png((middle / middle.max() * 255).astype(np.uint8))
    nifti = {"accept": "application/gzip"}
    return {
        "picture": Request("/predict", {"file": ("picture.png", picture)}),
        "volume": Request("/segment", {"flair": (path.name, path.read_bytes())}, nifti),
    }


async def send(address: str, mix: Sequence[Request], clients: int, seconds: float) -> Outcome:
    """Return what so many clients got that send one request after the other, in turn those of the mix."""
    outcome, ends = Outcome(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=600, trust_env=False) as http:

        async def client(number: int) -> None:
            while not outcome.statuses or time.perf_counter() < ends:
                request, started = mix[number % len(mix)], time.perf_counter()
                number += 1
                response = await http.post(request.path, files=request.files, headers=request.headers)
                outcome.statuses[response.status_code] += 1
                if response.is_success:
                    outcome.seconds.append(time.perf_counter() - started)
                elif response.status_code == 503:
                    await asyncio.sleep(0.05)

        started = time.perf_counter()
        await asyncio.gather(*map(client, range(clients)))
        outcome.duration = time.perf_counter() - started
    return outcome


def compare(
    checkpoint: Path, folder: Path, clients: Sequence[int], seconds: float, plain_backend: str = "torch"
) -> list[dict[str, Any]]:
    """Return a row for each kind of request, number of clients and server; both servers run all the time."""
    ours, plain = free_ports(2)
    plain_command = [sys.executable, "-m", "benchmarks.plain_api", str(checkpoint), str(plain), plain_backend]
    rows = []
    with server(our_command(checkpoint, ours, folder), ours), server(plain_command, plain):
        for what, request in requests(folder).items():
            for port in (ours, plain):
                asyncio.run(send(f"http://{HOST}:{port}", [request], 1, 0.1))  # the first request warms up
            for number in clients:
                for name, port in (("slicewise", ours), ("plain", plain)):
                    outcome = asyncio.run(send(f"http://{HOST}:{port}", [request], number, seconds))
                    rows.append({"what": what, "clients": number, "server": name, **outcome.row()})
                    print(format_row(rows[-1]), flush=True)
    return rows


def mixed(checkpoint: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the slope of the resident memory in MiB per minute, after a fifth of the mixed load."""
    (port,) = free_ports(1)
    with server(our_command(checkpoint, port, folder), port) as process:
        samples: list[tuple[float, float]] = []

        async def watch() -> None:
            while True:
                samples.append((time.perf_counter(), process.memory_info().rss / _MIB))
                await asyncio.sleep(min(1.0, seconds / 20))

        async def run() -> Outcome:
            watcher = asyncio.ensure_future(watch())
            try:
                mix = [*requests(folder).values()]
                return await send(f"http://{HOST}:{port}", [mix[0]] * 7 + [mix[1]], 8, seconds)
            finally:
                watcher.cancel()

        outcome = asyncio.run(run())
    times, mib = np.array(samples).T
    late = times > times[0] + (times[-1] - times[0]) / 5
    slope = float(np.polyfit((times[late] - times[0]) / 60, mib[late], 1)[0])
    return {"mib_per_minute": slope, "mib": float(mib[-1]), "statuses": dict(outcome.statuses)}


def flood(checkpoint: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the statuses under four times as many clients as there are places, and that it recovers."""
    (port,) = free_ports(1)
    capacity = compose([]).serving.max_waiting
    picture = requests(folder)["picture"]
    with server(our_command(checkpoint, port, folder), port):
        address = f"http://{HOST}:{port}"
        outcome = asyncio.run(send(address, [picture], 4 * capacity, seconds))
        after = asyncio.run(send(address, [picture], 1, 0.1))
        waiting = httpx.get(f"{address}/queue", trust_env=False).json()
    return {"statuses": dict(outcome.statuses), "after": dict(after.statuses), "queue": waiting}


def malformed(checkpoint: Path, folder: Path, number: int) -> dict[str, Any]:
    """Return the statuses of so many malformed bodies."""
    (port,) = free_ports(1)
    rng, statuses = np.random.default_rng(0), Counter[int]()
    head = {"content-type": "multipart/form-data; boundary=x"}
    with (
        server(our_command(checkpoint, port, folder), port),
        httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60, trust_env=False) as http,
    ):
        for index in range(number):
            body = _MALFORMED[index] if index < len(_MALFORMED) else rng.bytes(int(rng.integers(1, 5000)))
            statuses[http.post("/predict", content=body, headers=head).status_code] += 1
    return {"statuses": dict(statuses)}


def kill(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Return the seconds from a kill of the API under load to the next prediction; `serve` restarts it."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "slicewise", "serve", "--no-page", "--checkpoint", str(checkpoint)]
    command += ["--port", str(port), "--workspace", str(folder / "workspace")]
    address, picture = f"http://{HOST}:{port}", requests(folder)["picture"]
    with server(command, port) as process:

        async def under_load() -> float:
            load = asyncio.ensure_future(send(address, [picture], 4, 60))
            await asyncio.sleep(1)
            _api_below(process).kill()
            killed = time.perf_counter()
            await asyncio.gather(load, return_exceptions=True)
            return killed

        killed = asyncio.run(under_load())
        while time.perf_counter() - killed < _STARTUP_SECONDS:
            try:
                outcome = asyncio.run(send(address, [picture], 1, 0))
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                break
    return {"seconds": time.perf_counter() - killed, "statuses": dict(outcome.statuses)}


def _api_below(process: psutil.Process) -> psutil.Process:
    """Return the API among the services of `serve`."""
    return next(
        each for each in process.children(recursive=True) if "slicewise.serving.api.app" in each.cmdline()
    )


def free_ports(number: int) -> list[int]:
    """Return ports that no program uses."""
    return [port for port in range(18_000, 19_000) if is_free(port)][:number]


def format_row(row: dict[str, Any]) -> str:
    """Return a row of a Markdown table; latencies in ms."""
    numbers = " | ".join(f"{1000 * row[name]:.0f}" if name in row else "-" for name in ("p50", "p95", "p99"))
    return f"| {row['what']} | {row['clients']} | {row['server']} | {row['per_second']:.1f} | {numbers} |"


def main(argv: Sequence[str]) -> int:
    """Run what the options say; print a table, and write all figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model that both serve")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=20, help="of each row of the table")
    parser.add_argument("--plain-backend", default="torch", help="of the plain handler; auto: as the API has")
    parser.add_argument("--mixed", type=float, help="seconds of mixed load")
    parser.add_argument("--flood", type=float, help="seconds of a flood")
    parser.add_argument("--malformed", type=int, help="number of malformed bodies")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="slicewise-load-") as name:
        folder, model = Path(name), options.checkpoint
        print("| request | clients | server | per s | p50 ms | p95 ms | p99 ms |")
        print("|---|---:|---|---:|---:|---:|---:|")
        clients, seconds = options.clients, options.seconds
        figures["rows"] = compare(model, folder, clients, seconds, options.plain_backend) if clients else []
        if options.mixed:
            figures["mixed"] = mixed(model, folder, options.mixed)
        if options.flood:
            figures["flood"] = flood(model, folder, options.flood)
        if options.malformed:
            figures["malformed"] = malformed(model, folder, options.malformed)
        if options.kill:
            figures["kill"] = kill(model, folder)
    print(json.dumps({name: value for name, value in figures.items() if name != "rows"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
