"""The command that makes weights again, as a model card gives it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from training.checkpoint import ROOT
from training.config_file import read_override
from training.publish.weights import without_folders


def command_of(config: Path, overrides: Sequence[str], *, half: bool) -> str:
    """The command that gives such weights, for other eyes: see `without_folders`.

    Args:
        config: the configuration's file; within the project its path from there stays.
        overrides: `key.path=value` each, as `load_config` took them.
        half: whether the weights are written in float16.
    """
    told = [_told(override) for override in overrides]
    options = ["--config", _place(config), *told, *(["--half"] if half else [])]
    return shlex.join(["python", "-m", "training.train", *options])


def _place(config: Path) -> str:
    if not config.is_absolute():
        return str(config)
    file = config.resolve()
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else config.name


def _told(override: str) -> str:
    """The override as it was typed, unless its value, text or a list, holds an absolute path."""
    path, value = read_override(override)
    told = without_folders(value)
    return override if told == value else f"{path}={json.dumps(told, ensure_ascii=False)}"
