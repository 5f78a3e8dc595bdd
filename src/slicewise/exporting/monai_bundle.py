"""A MONAI bundle: TorchScript, configurations, and the checkpoint with which it predicts whole cases.

configs/metadata.json             what goes in and comes out, after the MONAI Bundle Specification
configs/metadata.schema.json      the schema of that file, so that it can be verified without a network
configs/inference.json            `python -m monai.bundle run`: a folder of cases to masks
models/model.ts                   a prepared slice to probabilities
models/model.safetensors, ...     what `Pipeline.load` reads
docs/README.md, LICENSE
"""

import warnings
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from slicewise import __version__
from slicewise.core.files import write_json, write_text
from slicewise.domain.labels import MODALITIES, NOTICE, SYNTHETIC_WARNING
from slicewise.exporting.folder_formats import FolderFormat
from slicewise.exporting.graph import ExportedGraph
from slicewise.exporting.huggingface import write_model
from slicewise.exporting.model_card import describe_licence, write_card
from slicewise.models.checkpoint import Checkpoint

_SCHEMA: Final = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_SCHEMA_NAME: Final = "metadata.schema.json"
_VERIFY: Final = f"""\
## Use

In the folder of the bundle (needs `slicewise`, `monai` and `fire`):

```bash
python -m monai.bundle run --config_file configs/inference.json --dataset_dir DATA --output_dir OUT
python -m monai.bundle verify_metadata --meta_file configs/metadata.json \\
  --filepath configs/{_SCHEMA_NAME}
python -m monai.bundle verify_net_in_out network --meta_file configs/metadata.json \\
  --config_file configs/inference.json
```

`run` predicts every case below DATA as `slicewise predict` does: preprocessing, thresholds and
post-processing are SliceWise's own. `models/model.ts` alone maps prepared slices to probabilities:
`forward(images)` to those of the pixels, 0 outside the foreground, and `classify(images)` to those of the
slice. An empty channel is 0 everywhere.
"""
_INFERENCE: Final = {
    "imports": [
        "$import torch",
        "$from pathlib import Path",
        "$from slicewise.inference.pipeline import Pipeline",
    ],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/data'",
    "output_dir": "$@bundle_root + '/eval'",
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        "_target_": "torch.jit.load",
        "f": "$@bundle_root + '/models/model.ts'",
        "map_location": "@device",
    },
    "network": "$@network_def.to(@device)",
    "inferer": {"_target_": "SimpleInferer"},
    "pipeline": "$Pipeline.load(@bundle_root + '/models', device=@device.type)",
    "dataset": "$@pipeline.find([Path(@dataset_dir)])[0]",
    "predictions": "$[@pipeline.predict(case) for case in @dataset]",
    "run": [
        "$Path(@output_dir).mkdir(parents=True, exist_ok=True)",
        "$[print(p.case, p.verdict, p.save_mask(Path(@output_dir))) for p in @predictions]",
    ],
}


class MonaiNetwork(nn.Module):
    """The exported graph with one input and one output, as MONAI calls networks.

    A channel that is 0 everywhere counts as absent.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.graph = ExportedGraph(checkpoint)

    def forward(self, images: Tensor) -> Tensor:
        """Return the probabilities of the pixels [B, K, N, N]; without segmentation those of `classify`."""
        if "mask_probability" not in self.graph.outputs:
            return self.classify(images)
        masks = self._outputs(images)[self.graph.outputs.index("mask_probability")]
        return masks * (images != 0).any(1, keepdim=True).to(masks.dtype)

    def classify(self, images: Tensor) -> Tensor:
        """Return the probabilities of the slices [B, 1] of the second class, or [B, C]."""
        shares = self._outputs(images)[self.graph.outputs.index("class_probability")]
        return shares if shares.ndim == 2 else shares[:, None]

    def _outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        presence = (images != 0).flatten(2).any(2).to(images.dtype)
        outputs: tuple[Tensor, ...] = self.graph(images, presence)
        return outputs


def write_monai(path: Path, checkpoint: Checkpoint, folder: Path) -> None:
    """Write the bundle of the checkpoint at `path`."""
    models, configs = folder / "models", folder / "configs"
    write_model(path, checkpoint, models)
    _write_network(checkpoint, models / "model.ts")
    write_json(configs / "metadata.json", describe_network(checkpoint))
    write_json(configs / "inference.json", _INFERENCE)
    package = files("slicewise.exporting")
    write_text(configs / _SCHEMA_NAME, (package / "monai_metadata.schema.json").read_text(encoding="utf-8"))
    card = write_card(path, checkpoint, _VERIFY)
    write_text(folder / "docs" / "README.md", card)
    write_text(folder / "README.md", card)
    text = distribution("slicewise").read_text("licenses/LICENSE") or "SPDX-License-Identifier: MIT\n"
    write_text(folder / "LICENSE", f"{describe_licence(checkpoint)}\n\n{text}")


def _write_network(checkpoint: Checkpoint, path: Path) -> None:
    """Write `model.ts`, a trace for slices of the size that the model was trained on."""
    network, size = MonaiNetwork(checkpoint).eval(), checkpoint.preprocessing.image_size
    images = torch.randn(2, len(checkpoint.preprocessing.channels), size, size)
    methods = ["forward", *(["classify"] if checkpoint.tasks.classification else [])]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, which MONAI's tools read
        trace: Any = torch.jit.trace_module
        traced = trace(network, dict.fromkeys(methods, images), check_trace=False)
        torch.jit.save(traced, str(path))
    _remove_source_lines(path)


def _remove_source_lines(path: Path) -> None:
    """Remove what names the files of the program, with the folders of this machine."""
    partial = path.with_suffix(".partial")
    reader, writer = torch._C.PyTorchFileReader(str(path)), torch._C.PyTorchFileWriter(str(partial))
    own = ("version", "byteorder", ".data/serialization_id")  # the writer's
    for name in reader.get_all_records():
        if name not in own and not name.endswith(".debug_pkl"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    partial.replace(path)


def describe_network(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the metadata of a bundle."""
    size, is_mri = checkpoint.preprocessing.image_size, {*checkpoint.preprocessing.channels} <= {*MODALITIES}
    what = " and ".join(checkpoint.tasks.names)
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by SliceWise {__version__} from {checkpoint.fingerprint[:12]}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "optional_packages_version": {"fire": "0.7.0"},
        "required_packages_version": {"slicewise": __version__, "nibabel": version("nibabel")},
        "task": f"{what.capitalize()} of {'axial MRI slices' if is_mri else 'pictures'}",
        "description": (
            f"{checkpoint.model.architecture} with the encoder {checkpoint.model.encoder}, trained on "
            f"{checkpoint.data_name}. Slices are normalised by `{checkpoint.preprocessing.intensity}` and "
            f"brought to {size} x {size} pixels." + (f" {SYNTHETIC_WARNING}" if checkpoint.synthetic else "")
        ),
        "authors": "the SliceWise project and whoever trained the model",
        "copyright": "see LICENSE",
        "data_source": checkpoint.data_name,
        "intended_use": NOTICE,
        "eval_metrics": {f"validation_{name}": value for name, value in checkpoint.metrics.items()},
        "network_data_format": _describe_tensors(checkpoint),
    }


def _describe_tensors(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the inputs and outputs of `model.ts`."""
    tasks, preprocessing = checkpoint.tasks, checkpoint.preprocessing
    size, channels = preprocessing.image_size, preprocessing.channels
    is_mri = {*channels} <= {*MODALITIES}
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "MR" if is_mri else "n/a",
        "num_channels": len(channels),
        "spatial_shape": [size, size],
        "value_range": [],
        "channel_def": dict(zip(map(str, range(len(channels))), channels, strict=True)),
    }
    outputs = {}
    if tasks.segmentation:
        names = tasks.segmentation.classes
        outputs["pred"] = {
            "type": "image",
            "format": "classes",
            **_channels(names),
            "spatial_shape": [size, size],
        }
    if tasks.classification:
        names = tasks.classification.classes
        names = names if tasks.classification.has_several else names[1:]
        key = "classification" if outputs else "pred"
        outputs[key] = {"type": "probabilities", "format": "classes", **_channels(names), "spatial_shape": []}
    common = {"dtype": "float32", "is_patch_data": False}
    return {
        "inputs": {"image": image | common},
        "outputs": {name: output | common for name, output in outputs.items()},
    }


def _channels(names: tuple[str, ...]) -> dict[str, Any]:
    channels = dict(zip(map(str, range(len(names))), names, strict=True))
    return {"num_channels": len(names), "channel_def": channels, "value_range": [0, 1]}


MONAI: Final = FolderFormat(write_monai, "configs/metadata.json")
