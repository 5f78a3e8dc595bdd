#!/usr/bin/env python3
"""Print the parameters of every built-in architecture, the table in docs/reference/configuration.md."""

import torch

from slicewise.config.compose import compose
from slicewise.config.schema.model import MONAI_ARCHITECTURES, SMP_ARCHITECTURES
from slicewise.models.multitask import MultitaskModel

WIDTHS = {"basic_unet": 64, "dynunet": 32, "segresnet": 32}
DEPTHS = {"basic_unet": 4, "segresnet": 3}


def main() -> None:
    print("| architecture | encoder | depth | width | million parameters |\n|---|---|---|---|---|")
    for name in (*SMP_ARCHITECTURES, *MONAI_ARCHITECTURES):
        encoder = "null" if name in MONAI_ARCHITECTURES else "resnet18"
        depth, width = DEPTHS.get(name, 5), WIDTHS.get(name, 16)
        overrides = {"architecture": name, "encoder": encoder, "encoder_depth": depth, "decoder_width": width}
        settings = compose(
            [f"model.{key}={value}" for key, value in overrides.items()] + ["model.encoder_weights=null"]
        )
        with torch.device("meta"):
            model = MultitaskModel(settings.model, settings.tasks)
        count = sum(weight.numel() for weight in model.parameters()) / 1e6
        shown = "" if encoder == "null" else encoder
        print(f"| `{name}` | {shown} | {settings.model.depth} | {width} | {count:.1f} |")


if __name__ == "__main__":
    main()
