"""Checkpoint files: read safely, named by their hash, loaded whole or not at all."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

StateDict: TypeAlias = dict[str, torch.Tensor]

# Where training scripts put the weights, the averaged ones first, as timm's own reader does.
NESTED_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
SHOWN = 3  # names of each kind in an error


def sha256_of(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal; computed once as long as the file is not written anew.

    Raises:
        FileNotFoundError: no such file.
    """
    path = Path(path).absolute()
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _digest(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: str | Path) -> StateDict:
    """Names and tensors of a .safetensors or PyTorch file, on the CPU.

    Nothing in the file is executed. The weights may stand bare or under "state_dict", "model" or
    their averaged ("ema") twins, and the prefixes of DistributedDataParallel and torch.compile are
    taken off.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no checkpoint, or that holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path} (looked for {path.absolute()}).")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in NESTED_KEYS:
        nested = content.get(key)
        if isinstance(nested, Mapping):
            content = nested
            break
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise ValueError(
            f"{path} holds no tensors, bare or under {', '.join(NESTED_KEYS)}; "
            f"its keys are: {', '.join(map(str, list(content)[:8]))}."
        )
    return {_unwrapped(name): tensor for name, tensor in state.items()}


def load_strictly(module: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load every parameter and buffer, or none.

    Args:
        module: what to load into.
        state: names and tensors.
        source: where they came from, for the message.

    Raises:
        ValueError: names that are missing or left over, or shapes that differ; the first of each
            are named.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Nothing was loaded."
        )
    module.load_state_dict(state)


def _read_safetensors(path: Path) -> Mapping[str, object]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}.") from error


def _read_torch(path: Path) -> Mapping[str, object]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read safely as a PyTorch checkpoint: it is damaged, of another "
            "format, or holds objects that would run code. Save its state dict alone, best as "
            ".safetensors."
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a state dict of names and tensors."
        )
    return content


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name
