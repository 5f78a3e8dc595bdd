"""The text in the folder of a bundle: what it is, how to predict with it, and what it may be used for."""

from collections.abc import Mapping
from typing import Any

from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING


def describe(content: Mapping[str, Any], name: str) -> str:
    """Return the README of a bundle from its `bundle.json`; `name` is that of its folder."""
    model = content["model"]
    tasks, preprocessing = model["tasks"], model["preprocessing"]
    lines = [f"# {name}", "", f"**{NOTICE}**", ""]
    lines += [f"**{SYNTHETIC_WARNING}**", ""] if model["synthetic"] else []
    lines += [
        f"Exported by {content['made_by']} from the {model['stage']} checkpoint of a model trained on "
        f"{model['data_name']} (SHA-256 `{content['source']['sha256'][:16]}...`).",
        "",
        *(_smaller(content["smaller"]) if "smaller" in content else []),
        "```bash",
        "pip install 'slicewise[runtime]'    # no torch",
        f"slicewise predict --checkpoint {name} picture.png patient_folder/",
        "```",
        "",
        "```python",
        "from slicewise.inference.pipeline import Pipeline",
        "",
        f'pipeline = Pipeline.load("{name}")',
        'print(pipeline.predict("picture.png").verdict)',
        "```",
        "",
        "## Input and output",
        "",
        f"- Channels: {', '.join(preprocessing['channels'])}; slices of {preprocessing['image_size']} x "
        f"{preprocessing['image_size']} pixels, prepared as `bundle.json` says.",
    ]
    for task, settings in tasks.items():
        if settings:
            lines.append(
                f"- {task.capitalize()}: {', '.join(settings['classes'])} ({settings['activation']})."
            )
    return "\n".join([*lines, *_outputs(content)])


def _outputs(content: Mapping[str, Any]) -> list[str]:
    """Return the lines on the graphs, their agreement with the checkpoint, and the terms of use."""
    lines = [
        "- A graph takes `images` [B, C, N, N] and `presence` [B, C], and gives `mask_probability` "
        "[B, K, N, N] (it means nothing where all channels are 0) and `class_probability`; calibrated ones "
        "have the names `volume_probability` and `picture_probability`.",
        "",
        "## Agreement with the checkpoint",
        "",
        "| Graph | Inputs | Differing pixels | Differing verdicts | Largest gap | ms a slice (torch) |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(graph, entry["parity"]) for graph, entry in content["graphs"].items()]
    commands = (each.get("details", {}).get("trtexec") for each in content["graphs"].values())
    for command in filter(None, commands):
        lines += ["", "An engine of TensorRT, for the GPU that builds it:", "", "```bash", command, "```"]
    lines += ["", "The program is under the MIT licence. Weights learned from data follow the terms of those "
              "data: check them before you share this folder.", ""]  # fmt: skip
    return lines


def _smaller(smaller: Mapping[str, Any]) -> list[str]:
    """Return what the model was made smaller from, and at what loss."""
    lines = [f"It is a smaller form of another checkpoint ({smaller['recipe']}), `best_model.pth` here:", ""]
    for name, judgement in smaller["graphs"].items():
        lines.append(
            f"- {name}: {judgement['speed']:.2f} times as fast; on the validation patients "
            f"{_losses(judgement)}."
        )
    return [*lines, ""]


def _losses(judgement: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{row['score']} {row['value']:+.4f} on {row['source']}"
        for row in judgement["differences"]
        if row["value"] is not None
    )


def _row(name: str, parity: Mapping[str, Any]) -> str:
    if "differences" in parity:  # int8: accepted at a loss, which is no parity
        milliseconds = f"{parity['milliseconds']:.1f}"
        return f"| {name} | validation patients | {_losses(parity)} | | | {milliseconds} |"
    if not parity:
        return f"| {name} | not compared here | | | | |"
    return (
        f"| {name} | {parity['inputs']:,} | {parity['differing_pixels']:,} of {parity['pixels']:,} | "
        f"{parity['differing_verdicts']} of {parity['verdicts']:,} | {parity['largest_difference']:.1e} | "
        f"{parity['milliseconds']:.1f} ({parity['milliseconds_torch']:.1f}) |"
    )
