"""The parser of every verb: an unknown option or choice is an error with a suggestion."""

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from slicewise.config.keys import closest_match, format_keys, leaf_keys, similar_keys

_UNKNOWN: Final = re.compile(r"unrecognized arguments: (?P<words>.+)", re.DOTALL)
_CHOICE: Final = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<choices>.+)\)")
_KEY_SYNONYMS: Final = {
    "learning_rates": "lr learning_rate",
    "batch_size": "bs batch",
    "num_workers": "workers",
    "num_threads": "threads",
    "device": "gpu gpus",
    "image_size": "imgsz img_size",
    "precision": "amp fp16",
    "mask_loss": "loss",
    "optimizer.name": "optimizer",
    "scheduler.name": "scheduler",
    "data": "dataset",
    "head_dropout": "dropout",
    "start_from": "pretrained weights resume_from",
    "data.sources.volumes.path": "data_dir data_path data_root",
    "api_port": "port",
    "mask_threshold": "threshold",
    "flips": "tta",
}
"""A key, and the options of other programs that have its meaning."""
_OPTION_SYNONYMS: Final = {
    "--num-patients": "n_patients max_patients patients limit",
    "--num-images": "n_images max_images images num_pictures num_samples",
    "--epochs": "n_epochs num_epochs max_epochs",
    "--batch-size": "bs batch",
    "--lr": "learning_rate",
    "--device": "gpu gpus",
    "--workspace": "output output_dir out_dir save_dir log_dir",
    "--only": "step steps",
    "--checkpoint": "model",
    "--folds": "cv k_folds",
    "the same command again, which continues a stopped run": "resume",
}


def _find_synonym(synonyms: Mapping[str, str], name: str) -> str | None:
    return next((ours for ours, others in synonyms.items() if name in others.split()), None)


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
        synonym = _find_synonym(_OPTION_SYNONYMS, name)
        if synonym and (synonym in options or not synonym.startswith("--")):
            return f"; for {option} use {synonym}"
        if f"--{name.replace('_', '-')}" in options:
            return f"; did you mean --{name.replace('_', '-')}?"
        word = _find_synonym(_KEY_SYNONYMS, name) or name
        keys = similar_keys(word) if "key=value" in self.format_usage() else []  # some verbs take none
        close_option = closest_match(option.lstrip("-"), [known.removeprefix("--") for known in options])
        if close_option and not any(key.endswith(word) for key in keys):
            return f"; did you mean --{close_option}?"
        if not keys:
            return ""
        values = [below for key in keys for below in ([key] if key == "data" else leaf_keys(key))]
        what = format_keys(values, f"={value or 'VALUE'}")
        return f"; {option} is no option, but there is a key of the configuration: {what}"
