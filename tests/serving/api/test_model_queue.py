"""The queue: bounded, ordered, in batches; a real server with clients that wait, leave, and are refused."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from tests.inference.pipelines import PLAIN

from slicewise.config.compose import compose
from slicewise.inference.pipeline import Pipeline
from slicewise.serving import HOST
from slicewise.serving.api.app import create_app
from slicewise.serving.api.model_queue import ModelQueue, Ticket
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.service import PredictionService


class Gate:
    """A model that waits, and remembers its batches."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[Any]] = []

    def infer(self, cases: Sequence[Any]) -> list[str]:
        self.entered.set()
        assert self.open.wait(20)
        self.batches.append([*cases])
        return [f"result of {case}" for case in cases]


def make_queue(gate: Gate, capacity: int = 8, batch_size: int = 4) -> ModelQueue:
    return ModelQueue(gate.infer, capacity=capacity, batch_size=batch_size, around=nullcontext())


async def predict(queue: ModelQueue, name: str) -> Any:
    with queue.admit(name) as ticket:
        return await queue.predict(ticket, lambda: name, is_batchable=lambda _: name.startswith("picture"))


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_waiting_pictures_are_one_batch_and_a_volume_is_alone() -> None:
    async def scenario() -> None:
        gate = Gate()
        queue = make_queue(gate)
        tasks = [asyncio.create_task(predict(queue, "volume"))]
        await until(gate.entered.is_set)
        for name in ("picture 1", "other", "picture 2", "picture 3"):
            tasks.append(asyncio.create_task(predict(queue, name)))
            await until(lambda: len(queue._jobs) == len(tasks) - 1)
        gate.open.set()
        results = await asyncio.gather(*tasks)
        assert [result for _, result in results] == [f"result of {name}" for name, _ in results]
        assert gate.batches[0] == ["volume"]
        assert sorted(map(len, gate.batches)) == [1, 1, 3]
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(scenario())


def test_places_are_counted_and_a_full_queue_says_when_to_come_back() -> None:
    async def scenario() -> None:
        gate = Gate()
        queue = make_queue(gate, capacity=2)
        tasks = [asyncio.create_task(predict(queue, f"volume {number}")) for number in range(3)]
        await until(lambda: queue.running == 1 and queue.waiting == 2)
        places = [queue.find(f"volume {number}") for number in range(3)]
        assert [place and place[0] for place in places] == [0, 1, 2]
        assert queue.find("another") is None
        with pytest.raises(RequestError) as caught:
            await predict(queue, "too many")
        assert caught.value.status == 503
        assert int(caught.value.headers["retry-after"]) >= 1
        gate.open.set()
        await asyncio.gather(*tasks)
        assert (await predict(queue, "later"))[1] == "result of later"

    asyncio.run(scenario())


def test_what_is_given_up_is_not_computed() -> None:
    async def scenario() -> None:
        gate = Gate()
        queue = make_queue(gate)
        first = asyncio.create_task(predict(queue, "volume"))
        await until(gate.entered.is_set)
        others = [asyncio.create_task(predict(queue, name)) for name in ("picture gone", "picture stays")]
        await until(lambda: len(queue._jobs) == 2)
        others[0].cancel()
        await until(lambda: queue.waiting == 1)
        gate.open.set()
        await asyncio.gather(first, others[1])
        assert gate.batches == [["volume"], ["picture stays"]]

    asyncio.run(scenario())


def test_an_error_of_the_model_is_that_of_its_cases_alone() -> None:
    async def scenario() -> None:
        def infer(cases: Sequence[Any]) -> list[Any]:
            if "volume bad" in cases:
                raise RuntimeError("broken")
            return [*cases]

        queue = ModelQueue(infer, capacity=8, batch_size=4, around=nullcontext())
        with pytest.raises(RuntimeError, match="broken"):
            await predict(queue, "volume bad")
        assert (await predict(queue, "volume good"))[1] == "volume good"

    asyncio.run(scenario())


def test_closing_refuses_who_waits_and_finishes_what_runs() -> None:
    async def scenario() -> None:
        gate = Gate()
        queue = make_queue(gate)
        first = asyncio.create_task(predict(queue, "volume"))
        await until(gate.entered.is_set)
        second = asyncio.create_task(predict(queue, "waits"))
        await until(lambda: len(queue._jobs) == 1)
        queue.close()
        with pytest.raises(RequestError, match="shutting down"):
            await predict(queue, "late")
        gate.open.set()
        assert (await first)[1] == "result of volume"
        with pytest.raises(RequestError, match="shutting down"):
            await second

    asyncio.run(scenario())


@pytest.fixture
def service(
    checkpoint_path: Path, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[tuple[str, PredictionService]]:
    """The API on a real socket in this process, with room for two requests."""
    pipeline = Pipeline.load(checkpoint_path, device="cpu", **PLAIN._asdict())
    settings = compose([]).serving.model_copy(update={"max_waiting": 2, "timeout_seconds": 5.0})
    app = create_app(pipeline, settings, cases_dir=tmp_path, num_threads=1)
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=free_port(), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://{HOST}:{server.config.port}", app.state.service
    server.should_exit = True
    thread.join()


@pytest.fixture
def gate(service: tuple[str, PredictionService]) -> Iterator[Gate]:
    """The model of the service waits for this gate."""
    gate, infer = Gate(), service[1]._infer

    def wait(cases: Sequence[Any]) -> Any:
        gate.infer([case.inputs.volume.key for case in cases])
        return infer(cases)

    service[1].queue._infer = wait
    yield gate
    gate.open.set()


def post(address: str, path: Path, name: str) -> httpx.Response:
    files = {"file": ("a.png", path.read_bytes())}
    headers = {"x-request-id": name}
    return httpx.post(f"{address}/predict", files=files, headers=headers, timeout=30, trust_env=False)


def get(address: str) -> httpx.Response:
    return httpx.get(address, trust_env=False)


def wait_for(condition: Callable[[], Any]) -> None:
    asyncio.run(until(condition))


def test_a_client_that_disconnects_is_not_computed_for(
    service: tuple[str, PredictionService], gate: Gate, picture_path: Path
) -> None:
    address, served = service
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, address, picture_path, "first")
        wait_for(gate.entered.is_set)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            request = httpx.Request("POST", f"{address}/predict", files={"file": picture_path.read_bytes()})
            head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            connection.sendall(f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + request.read())
            wait_for(lambda: len(served.queue._jobs) == 1)
        wait_for(lambda: served.queue.waiting == 0)
        gate.open.set()
        assert first.result().status_code == 200
        assert post(address, picture_path, "last").status_code == 200
    assert len(gate.batches) == 2, "the request in between was not computed"


def test_a_flood_is_refused_with_the_time_to_come_back_and_places_are_told(
    service: tuple[str, PredictionService], gate: Gate, picture_path: Path
) -> None:
    address, served = service
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, address, picture_path, "first")
        wait_for(gate.entered.is_set)
        assert get(f"{address}/readyz").json() == {"status": "ready", "running": 1, "waiting": 0}
        others = []
        for number in (1, 2):
            others.append(pool.submit(post, address, picture_path, f"waits-{number}"))
            wait_for(lambda: served.queue.waiting == number)  # noqa: B023  # called at once
        refused = post(address, picture_path, "refused")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["x-request-id"] == "refused"
        assert refused.json()["instance"] == "/predict#refused"
        assert int(refused.headers["retry-after"]) >= 1
        assert get(f"{address}/readyz").status_code == 503
        state = get(f"{address}/queue?request=waits-2").json()
        assert {name: state[name] for name in ("running", "waiting", "capacity", "position")} == {
            "running": 1, "waiting": 2, "capacity": 2, "position": 2,
        }  # fmt: skip
        assert state["since"].endswith("Z")
        assert get(f"{address}/queue?request=nobody").status_code == 404
        gate.open.set()
        assert {future.result().status_code for future in (first, *others)} == {200}
    assert get(f"{address}/readyz").status_code == 200


def test_what_takes_too_long_is_given_up_with_504(
    service: tuple[str, PredictionService], gate: Gate, picture_path: Path
) -> None:
    address, served = service
    served.settings = served.settings.model_copy(update={"timeout_seconds": 0.2})
    response = post(address, picture_path, "slow")
    assert response.status_code == 504
    assert "serving.timeout_seconds" in response.json()["detail"]
    served.settings = served.settings.model_copy(update={"timeout_seconds": 20.0})
    gate.open.set()
    assert post(address, picture_path, "next").status_code == 200


def test_many_pictures_at_once_are_predicted_as_each_alone(
    service: tuple[str, PredictionService], gate: Gate, picture_path: Path
) -> None:
    address, served = service
    served.queue.capacity = 16
    gate.open.set()
    alone = post(address, picture_path, "alone").json()
    gate.open.clear()
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(post, address, picture_path, f"n{number}") for number in range(6)]
        # The first batch, which is running, has one picture or several.
        wait_for(lambda: served.queue.waiting + served.queue.running == 6)
        time.sleep(0.1)
        gate.open.set()
        answers = [future.result().json() for future in futures]
    assert max(map(len, gate.batches)) > 1
    for answer in answers:
        assert answer["mask_png"] == alone["mask_png"]
        np.testing.assert_allclose(answer["tumour_probability"], alone["tumour_probability"], atol=1e-6)


def test_a_signal_finishes_what_runs_and_keeps_its_result(
    checkpoint_path: Path, tmp_path: Path, free_port: Callable[[], int], volume_path: Path
) -> None:
    """A real process gets SIGTERM while it predicts; the next process shows the result."""
    settings = compose([]).serving.model_copy(update={"api_port": free_port()})
    words = {
        "--checkpoint": checkpoint_path, "--device": "cpu", "--num-threads": 1, "--cases": tmp_path,
        "--serving": settings.model_dump_json(), "--results": tmp_path / "results",
        "--settings": compose([]).evaluation.model_dump_json(),
    }  # fmt: skip
    module = [sys.executable, "-m", "slicewise.serving.api.app"]
    command = [*module, *(str(part) for pair in words.items() for part in pair)]
    address = f"http://{HOST}:{settings.api_port}"

    def start() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while True:
            try:
                if get(f"{address}/healthz").status_code == 200:
                    return server
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def examine() -> httpx.Response:
        files = {"flair": ("a.nii.gz", volume_path.read_bytes())}
        return httpx.post(f"{address}/predict?gradcam=true", files=files, timeout=60, trust_env=False)

    server = start()
    try:
        with ThreadPoolExecutor() as pool:
            future = pool.submit(examine)
            wait_for(lambda: get(f"{address}/queue").json()["running"])
            os.kill(server.pid, signal.SIGTERM)
            response = future.result()
        assert response.status_code == 200
        server.wait(20)
        server = start()
        assert json.loads(get(f"{address}/results/{response.json()['id']}").content) == response.json()
    finally:
        server.kill()
        server.wait()


def test_a_ticket_tells_why_it_was_taken_out() -> None:
    ticket = Ticket("a")
    ticket.require_wanted()
    ticket.fault = RequestError(503, "closed")
    with pytest.raises(RequestError, match="closed"):
        ticket.require_wanted()
