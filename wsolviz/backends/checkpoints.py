"""Checkpoint files: read safely, named by their hash, loaded whole or not at all."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from wsolviz.defaults import DEFAULTS

StateDict: TypeAlias = dict[str, torch.Tensor]

# Where training scripts put the weights, the averaged ones first, as timm's own reader does.
NESTED_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
SHOWN = 3  # names of each kind in an error
# Where timm's and the WSOL benchmark's training scripts say which network it is, and what
# `load_backbone` calls it.
DECLARED_KEYS = {"arch": "timm/{}", "architecture": "{}_cam"}

# Plain values that training scripts keep beside the weights: their options, and their scores as
# NumPy numbers. Reading them runs none of the file's code.
PLAIN_VALUES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.float64(0).__reduce__()[0],  # how NumPy's scalars are rebuilt; public under no stable name
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")},
]
# What reading a damaged PyTorch file raises, of whose bytes anything may be wrong.
DAMAGED = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, ArithmeticError),
    *(LookupError, TypeError, AttributeError, AssertionError, struct.error),
)


class MisfitError(ValueError):
    """Weights that do not fit a network.

    Attributes:
        state: the weights' names and tensors.
    """

    def __init__(self, message: str, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        state: names and tensors, on the CPU.
        form: the file's format and where in it the weights stand, in words.
        declared: which backbone it says that it is for, None if it says nothing.
    """

    state: StateDict
    form: str
    declared: str | None = None


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
    """Names and tensors of a weights file, on the CPU; see `open_checkpoint`."""
    return open_checkpoint(path).state


def open_checkpoint(path: str | Path) -> Checkpoint:
    """What a .safetensors or PyTorch file holds.

    Nothing in the file is executed. The weights may stand bare or under "state_dict", "model" or
    their averaged ("ema") twins, and the prefixes of DistributedDataParallel and torch.compile are
    taken off.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no checkpoint, that is too large, or that holds more than tensors
            and plain values, or a tensor twice, with such a prefix and without.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path} (looked for {path.absolute()}).")
    size, most = path.stat().st_size, DEFAULTS.max_checkpoint_bytes
    if size > most:
        raise ValueError(
            f"{path} has {size / 2**30:.1f} GiB; weights files of up to {most / 2**30:.0f} GiB are "
            "read. Save its state dict alone, without the optimizer's."
        )
    is_safetensors = path.suffix == ".safetensors"
    content = _read_safetensors(path) if is_safetensors else _read_torch(path)
    nested = (k for k in NESTED_KEYS if isinstance(content.get(k), Mapping) and content[k])
    place = next(nested, None)
    weights: Any = content if place is None else content[place]
    state = {str(k): v for k, v in weights.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise ValueError(
            f"{path} holds no tensors, bare or under {', '.join(NESTED_KEYS)}; "
            f"its keys are: {', '.join(map(str, list(weights)[:8]))}."
        )
    unwrapped = {_unwrapped(name): tensor for name, tensor in state.items()}
    if len(unwrapped) < len(state):
        twice = next(name for name in state if name != _unwrapped(name) in state)
        raise ValueError(f"{path} holds {_unwrapped(twice)} twice, once of them as {twice}.")
    said = [(f, v) for k, f in DECLARED_KEYS.items() if isinstance(v := content.get(k), str)]
    declared = said[0][0].format(said[0][1]) if said else None
    form = ("safetensors" if is_safetensors else "PyTorch") + (f", under {place}" if place else "")
    return Checkpoint(unwrapped, form, declared)


def rows_of(state: Mapping[str, torch.Tensor], name: str) -> int | None:
    """The length of a tensor, such as K of a classifier's weight; None where it has none."""
    tensor = state.get(name)
    return None if tensor is None or tensor.ndim == 0 else len(tensor)


def load_strictly(module: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load every parameter and buffer, or none.

    Args:
        module: what to load into.
        state: names and tensors.
        source: where they came from, for the message.

    Raises:
        MisfitError: names that are missing or left over, or shapes that differ; the first of each
            are named.
    """
    problems = misfits(module.state_dict(), state)
    if problems:
        raise MisfitError(
            f"{source} does not fit {type(module).__name__}: {problems}. Nothing was loaded.", state
        )
    module.load_state_dict(state)


def misfits(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """What keeps a state dict from fitting a network's own, in words; empty where it fits."""
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    )


def _read_safetensors(path: Path) -> Mapping[str, object]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}.") from error


def _read_torch(path: Path) -> Mapping[str, object]:
    try:
        with torch.serialization.safe_globals(PLAIN_VALUES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise ValueError(
            f"{path} cannot be read safely as a PyTorch checkpoint: it is damaged, of another "
            "format, or holds objects that would run code when they are unpickled. If you trust "
            "where it comes from, open it in a place that may be lost (a container) with "
            "torch.load(FILE, weights_only=False), save its state dict with "
            "safetensors.torch.save_file, and give that file."
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
