"""A model in words: what it segments and classifies, and what its input is."""

from collections.abc import Mapping, Sequence
from typing import Any

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.wording import is_of_pictures

_INTENSITIES = {
    "zscore_foreground": "normalised to mean 0 and standard deviation 1 in the foreground",
    "percentile": "scaled so that the range between two percentiles is 0 to 1",
    "unit": "scaled from the range of the type of the file to 0 to 1",
    "imagenet": "scaled to 0 to 1 and normalised by the mean and standard deviation of ImageNet",
}
_FITS = {
    "resize": "resized to {size} × {size} pixels",
    "pad": "padded to {size} × {size} pixels",
    "tile": "cut into tiles of {size} × {size} pixels",
}


def describe_model(tasks: Mapping[str, Any]) -> str:
    """Return what a model of these tasks does, as a sentence."""
    segmentation, classification = tasks[SEGMENTATION], tasks[CLASSIFICATION]
    where = "pictures" if is_of_pictures() else "axial MRI slices"
    parts = ["an encoder"]
    if segmentation:
        classes = segmentation["classes"]
        what = f"{'brain tumours' if classes == ['tumour'] else _listed(classes)} in {where}"
        if is_of_pictures():
            what = f"pictures into {_listed(['background', *classes])}"
        parts.append(f"a decoder that segments {what}")
    if classification:
        classes = classification["classes"]
        does = f"classifies {where} as {_listed(classes, 'or')}"
        if classes == ["no_tumour", "tumour"]:
            does = f"classifies whether {'a slice shows one' if segmentation else 'there is a tumour'}"
        parts.append(f"a head that {does}")
    text = parts[0] + "".join(f", {part}" for part in parts[1:-1]) + f" and {parts[-1]}"
    return f"{text[0].upper()}{text[1:]}."


def describe_preparation(preprocessing: Mapping[str, Any]) -> str:
    """Return what is done to an image before the model sees it, and which channels that has."""
    intensity = _INTENSITIES[preprocessing["intensity"]]
    fit = _FITS[preprocessing["fit"]].format(size=preprocessing["image_size"])
    channels = preprocessing["channels"]
    absent = "; absent ones are 0" if len(channels) > 1 and not is_of_pictures() else ""
    number = f"{len(channels)} channels" if len(channels) > 1 else "one channel"
    return f"Images are {intensity}, and {fit}. The input has {number} ({', '.join(channels)}){absent}."


def _listed(names: Sequence[str], last: str = "and") -> str:
    words = [name.replace("_", " ") for name in names]
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
