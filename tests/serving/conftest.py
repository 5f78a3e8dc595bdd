"""Small stand-ins that answer like the demo's services, and free ports to put them on."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from slicewise.config.schema import Model, Preprocessing
from slicewise.core.labels import CLASS_NAMES
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.models.multitask import build_model
from slicewise.serving.services import DemoSpec, Service
from slicewise.serving.state import HOST

STUB = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "ready", "fingerprint": sys.argv[2]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

print("stub is up", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

FINGERPRINT = "f" * 64
AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])

MakeSpec = Callable[..., DemoSpec]


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return ports that nobody listens on, another one each time."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port: int = probe.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture
def stub_spec(tmp_path: Path, free_port: Callable[[], int]) -> MakeSpec:
    """Return a demo of two stubs; a given `command` takes the place of the API's."""

    def make(command: tuple[str, ...] | None = None) -> DemoSpec:
        home, log_dir = tmp_path / "home", tmp_path / "logs"
        home.mkdir(exist_ok=True)
        log_dir.mkdir(exist_ok=True)
        services = []
        for name in ("api", "page"):
            port = free_port()
            stub = (sys.executable, "-c", STUB, str(port), "abc")
            chosen = command if command and name == "api" else stub
            services.append(Service(name, chosen, (), port, "/healthz", str(log_dir / f"{name}.log")))
        return DemoSpec(str(home), str(log_dir), "abc", "model.pth", tuple(services))

    return make


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training writes it, of a small network with random weights."""
    torch.manual_seed(0)
    model = Model(
        architecture="unet",
        encoder="resnet18",
        encoder_weights=None,
        encoder_depth=3,
        decoder_width=16,
        head_hidden=0,
        head_dropout=0.0,
    )
    preprocessing = Preprocessing(
        image_size=64,
        clip_percentiles=(0.5, 99.5),
        crop_margin=0.05,
        min_brain_fraction=0.1,
        healthy_ratio=1.0,
        max_train_slices=64,
    )
    checkpoint = Checkpoint(
        weights=build_model(model).state_dict(),
        model=model,
        preprocessing=preprocessing,
        class_names=CLASS_NAMES,
        stage="joint",
        metrics={"dice": 0.5},
        fingerprint=FINGERPRINT,
        data_name="phantom",
        synthetic=True,
        slot="flair",
    )
    path = tmp_path_factory.mktemp("checkpoint") / "best_model.pth"
    save_checkpoint(path, checkpoint)
    return path


def head_volume() -> NDArray[np.int16]:
    """A skull-stripped ball of tissue with a bright lesion, in file order [col, row, slice]."""
    x, y, z = np.meshgrid(
        np.linspace(-1, 1, 48), np.linspace(-1, 1, 40), np.linspace(-1, 1, 12), indexing="ij"
    )
    rng = np.random.default_rng(0)
    brain = (x**2 + y**2 + z**2 < 0.8) * (400 + 40 * rng.standard_normal(x.shape))
    lesion = ((x - 0.3) ** 2 + y**2 + z**2 < 0.06) * 300
    return (brain + lesion).astype(np.int16)


def save_volume(path: Path) -> Path:
    nib.save(nib.Nifti1Image(head_volume(), AFFINE), path)
    return path


@pytest.fixture
def volume_path(tmp_path: Path) -> Path:
    return save_volume(tmp_path / "head.nii.gz")


@pytest.fixture
def picture_path(tmp_path: Path) -> Path:
    path = tmp_path / "head.png"
    Image.fromarray((head_volume()[:, :, 6].T // 4).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def cases_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled cases as the phantom writes them, but small."""
    root = tmp_path_factory.mktemp("cases")
    case = root / "Phantom_10000"
    case.mkdir()
    for modality in ("t1", "t1ce", "t2", "flair", "seg"):
        save_volume(case / f"{case.name}_{modality}.nii.gz")
    return root
