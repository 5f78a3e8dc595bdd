"""The parser of every verb: an unknown option or choice is an error with a suggestion."""

import argparse
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from slicewise.config.keys import closest_match, format_keys, leaf_keys, similar_keys

_UNKNOWN: Final = re.compile(r"unrecognized arguments: (?P<words>.+)", re.DOTALL)
_CHOICE: Final = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<choices>.+)\)")
_KEY_SYNONYMS: Final = {
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
    "data_dir": "data.sources.volumes.path",
    "data_path": "data.sources.volumes.path",
    "data_root": "data.sources.volumes.path",
    "port": "api_port",
    "threshold": "mask_threshold",
    "tta": "flips",
}
"""Options of other programs: the key that has their meaning here."""
_OPTION_SYNONYMS: Final = {
    "output": "--workspace",
    "output_dir": "--workspace",
    "out_dir": "--workspace",
    "save_dir": "--workspace",
    "log_dir": "--workspace",
    "step": "--only",
    "steps": "--only",
    "model": "--checkpoint",
    "cv": "--folds",
    "k_folds": "--folds",
    "resume": "the same command again, which continues a stopped run",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors suggest the option or key that was probably meant."""

    on_help: Callable[[], None] = staticmethod(lambda: None)
    """Called before the help is printed, for parts of it that take a while."""

    def print_help(self, file: Any = None) -> None:
        self.on_help()
        super().print_help(file)

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2; print the usage, the error and a suggestion."""
        super().error(message + self._advice(message))

    def _advice(self, message: str) -> str:
        if unknown := _UNKNOWN.search(message):
            advice = (self._suggestion(word) for word in unknown["words"].split() if word.startswith("-"))
            return "".join(dict.fromkeys(filter(None, advice)))
        if invalid := _CHOICE.search(message):
            close_choice = closest_match(invalid["word"], re.findall("'([^']*)'", invalid["choices"]))
            return f"; did you mean {close_choice}?" if close_choice else ""
        return ""

    def _suggestion(self, word: str) -> str:
        """Return which key or option was probably meant by an unknown option."""
        option, _, value = word.partition("=")
        name = option.lstrip("-").replace("-", "_").lower()
        options = [known for known in self._option_string_actions if known.startswith("--")]
        synonym = _OPTION_SYNONYMS.get(name)
        if synonym and (synonym in options or not synonym.startswith("--") or "STEP" in synonym):
            return f"; for {option} use {synonym}"
        word = _KEY_SYNONYMS.get(name, name)
        keys = similar_keys(word) if "key=value" in self.format_usage() else []  # some verbs take none
        close_option = closest_match(option.lstrip("-"), [known.removeprefix("--") for known in options])
        if close_option and not any(key.endswith(word) for key in keys):
            return f"; did you mean --{close_option}?"
        if not keys:
            return ""
        values = [below for key in keys for below in ([key] if key == "data" else leaf_keys(key))]
        what = format_keys(values, f"={value or 'VALUE'}")
        return f"; {option} is no option, but there is a key of the configuration: {what}"
