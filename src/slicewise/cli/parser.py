"""The parser of every verb: what is not an option or a choice is named with what may have been meant."""

import argparse
import re
from typing import Final, NoReturn

from slicewise.config.keys import closest, likely, listed, values_below

_UNKNOWN: Final = re.compile(r"unrecognized arguments: (?P<words>.+)", re.DOTALL)
_CHOICE: Final = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<choices>.+)\)")
_OTHER_WORDS: Final = {
    "lr": "learning_rates",
    "learning_rate": "learning_rates",
    "bs": "batch_size",
    "batch": "batch_size",
    "workers": "num_workers",
    "threads": "num_threads",
    "gpu": "device",
    "gpus": "device",
    "imgsz": "image_size",
    "img_size": "image_size",
    "amp": "precision",
    "fp16": "precision",
    "loss": "mask_loss",
    "optimizer": "optimizer.name",
    "scheduler": "scheduler.name",
    "dataset": "data",
    "dropout": "head_dropout",
    "pretrained": "start_from",
    "weights": "start_from",
    "resume_from": "start_from",
    "data_dir": "data.volumes.path",
    "data_path": "data.volumes.path",
    "data_root": "data.volumes.path",
    "port": "api_port",
    "threshold": "mask_threshold",
    "tta": "flips",
}
"""What options of other programs are called here."""
_OTHER_OPTIONS: Final = {
    "output": "--workspace",
    "output_dir": "--workspace",
    "out_dir": "--workspace",
    "save_dir": "--workspace",
    "log_dir": "--workspace",
    "step": "--only",
    "steps": "--only",
    "skip": "--skip-STEP",
    "model": "--checkpoint",
    "cv": "--folds",
    "k_folds": "--folds",
    "resume": "the same command again, which continues a stopped run",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that suggests."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2, the usage and what is wrong."""
        super().error(message + self._advice(message))

    def _advice(self, message: str) -> str:
        if found := _UNKNOWN.search(message):
            advice = (self._meant(word) for word in found["words"].split() if word.startswith("-"))
            return "".join(dict.fromkeys(filter(None, advice)))
        if found := _CHOICE.search(message):
            near = closest(found["word"], re.findall("'([^']*)'", found["choices"]))
            return f"; did you mean {near}?" if near else ""
        return ""

    def _meant(self, word: str) -> str:
        """Say which key or option may have been meant by an unknown option."""
        option, _, value = word.partition("=")
        name = option.lstrip("-").replace("-", "_").lower()
        options = [known for known in self._option_string_actions if known.startswith("--")]
        other = _OTHER_OPTIONS.get(name)
        if other and (other in options or not other.startswith("--") or "STEP" in other):
            return f"; for {option} use {other}"
        word = _OTHER_WORDS.get(name, name)
        keys = self._keys(word)
        near = closest(option.lstrip("-"), [known.removeprefix("--") for known in options])
        if near and not any(key.endswith(word) for key in keys):
            return f"; did you mean --{near}?"
        if not keys:
            return ""
        values = [below for key in keys for below in ([key] if key == "data" else values_below(key))]
        what = listed(values, f"={value or 'VALUE'}")
        return f"; {option} is no option, but there is a key of the configuration: {what}"

    def _keys(self, name: str) -> list[str]:
        """Return the keys of that name, where this verb takes any."""
        return likely(name) if "key=value" in self.format_usage() else []
