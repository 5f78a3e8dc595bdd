"""A prepared slice predicted by exported graphs against eager torch, all with their own number of threads."""

from pathlib import Path

import torch

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, throughput
from slicewise.exporting.folder import write_graphs
from slicewise.exporting.parity import open_graph
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.speed import time_slices
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.models.program import export_program

NAME = "export"
AIMS = {"onnx": Aim(">=", 3), "openvino": None}
"""Formats"""


def run(bench: Bench) -> list[Row]:
    """Time one slice in torch, ONNX and OpenVINO, alternately; the weights are random."""
    path, folder = bench.folder / "export.pth", bench.folder / "export"
    save_checkpoint(path, _untrained(bench))
    eager = Pipeline.load(path, backend="torch", device="cpu")
    folder.mkdir()
    write_graphs(eager, [*AIMS], folder)
    pipelines = {"torch": eager, **{name: open_graph(Path(folder), name) for name in AIMS}}
    times = time_slices([*pipelines.values()], 1, bench.size.repeats * bench.size.iterations, NAME)
    seconds = {name: [each / 1000 for each in own] for name, own in zip(pipelines, times, strict=True)}
    return [
        throughput(
            NAME, f"a slice in {name}, against eager torch", 1, seconds[name], seconds["torch"], AIMS[name]
        )
        for name in AIMS
    ]


def _untrained(bench: Bench) -> Checkpoint:
    config = bench.config
    torch.manual_seed(0)
    settings = config.model.model_copy(update={"encoder_weights": None})
    model = MultitaskModel(settings, config.tasks, len(config.preprocessing.channels)).eval()
    return Checkpoint(
        weights=model.state_dict(),
        model=settings,
        preprocessing=config.preprocessing,
        tasks=config.tasks,
        stage="joint",
        metrics={},
        fingerprint="0" * 64,
        data_name=config.data.name,
        synthetic=True,
        slot=config.data.slot,
        program=export_program(model, config.preprocessing.image_size),
    )
