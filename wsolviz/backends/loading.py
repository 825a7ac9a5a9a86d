"""`load_backbone`: from a name to a network that is loaded once and shared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from wsolviz.backends.base import Backbone
from wsolviz.cache import ByteBoundedCache
from wsolviz.defaults import DEFAULTS
from wsolviz.registry import Registry
from wsolviz.types import Precision

OUTPUT_STRIDES = (8, 16, 32)

_logger = logging.getLogger(__name__)

Weights: TypeAlias = "Literal['default'] | str | Path | None"


@dataclass(frozen=True)
class LoadRequest:
    """What a backbone is asked for; see `load_backbone`."""

    name: str
    weights: Weights
    num_classes: int | None
    device: torch.device
    output_stride: int | None
    precision: torch.dtype


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be asked for by name, or, where the name ends in "/", a whole family."""

    name: str
    help: str
    load: Callable[[LoadRequest], Backbone]

    @property
    def is_family(self) -> bool:
        """Whether `name` is only the beginning of the names it stands for."""
        return self.name.endswith("/")


BACKBONES: Registry[BackboneEntry] = Registry("backbone")
"""Backbones and families by name; filled by the modules that `wsolviz.backends` imports."""

_loaded: ByteBoundedCache[Backbone] = ByteBoundedCache(
    DEFAULTS.backbone_cache_bytes,
    size_of=lambda backbone: backbone.num_bytes,
    on_eviction=lambda backbone: [forget(backbone) for forget in _forgetters],
)
_forgetters: list[Callable[[Backbone], object]] = []


def on_eviction(forget: Callable[[Backbone], object]) -> Callable[[Backbone], object]:
    """Have a function called with each backbone that leaves memory, to let go of it too."""
    _forgetters.append(forget)
    return forget


def register_backbone(
    name: str, help: str
) -> Callable[[Callable[[LoadRequest], Backbone]], Callable[[LoadRequest], Backbone]]:
    """Register the function that loads a backbone, or a family where `name` ends in "/"."""

    def register(load: Callable[[LoadRequest], Backbone]) -> Callable[[LoadRequest], Backbone]:
        BACKBONES.register(name, BackboneEntry(name, help, load))
        return load

    return register


def load_backbone(
    name: str,
    weights: Weights = "default",
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    output_stride: int | None = None,
    *,
    precision: Precision = "float32",
) -> Backbone:
    """Load a backbone; one load serves every caller.

    Args:
        name: "efficientnet_lite0", "timm/<any timm model[.tag]>" … (see `BACKBONES`).
        weights: "default" (what comes with the backbone, or timm's hub), None (random, and not
            shared), or a .safetensors / .pth file.
        num_classes: K; None for the weights' own.
        device: "auto" takes CUDA or MPS when there is one, else the CPU.
        output_stride: input pixels a cell of the feature map, where the architecture offers a
            choice; smaller gives a finer map without training.
        precision: "float32", or autocast to "bfloat16" or "float16".

    Raises:
        ValueError: an unknown name, option or file content; the message names the alternatives.
        FileNotFoundError: weights that are not on disk and cannot be fetched.

    >>> load_backbone("efficientnet_lite0").class_names[281]
    'tabby, tabby cat'
    """
    check_output_stride(output_stride)
    entry = find_entry(name)
    request = LoadRequest(
        name, weights, num_classes, pick_device(device), output_stride, _dtype(precision)
    )
    if weights is None:
        return _load_checked(entry, request)
    return _loaded.get((request, _file_stamp(weights)), lambda _: _load_checked(entry, request))


def find_entry(name: str) -> BackboneEntry:
    """The entry that a name, or the family it belongs to, is registered under.

    Raises:
        UnknownNameError: there is none.
    """
    family = f"{name.partition('/')[0]}/"
    return BACKBONES[family if name not in BACKBONES and family in BACKBONES else name]


def _load_checked(entry: BackboneEntry, request: LoadRequest) -> Backbone:
    """Load, fuse and check for exactness, so that the first photo does not wait for it."""
    backbone = entry.load(request)
    backbone.prepare()
    _logger.info("%s: %s", request.name, backbone.inexactness or "exact")
    return backbone


def check_output_stride(output_stride: int | None) -> None:
    """Refuse what networks would take and make nonsense of.

    Raises:
        ValueError: another output stride than 8, 16, 32 or None.
    """
    if output_stride not in (None, *OUTPUT_STRIDES):
        allowed = ", ".join(map(str, OUTPUT_STRIDES))
        raise ValueError(f"output_stride is one of {allowed}, not {output_stride}.")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """CUDA, else MPS, else the CPU for "auto"; otherwise the device that was named."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(precision: Precision) -> torch.dtype:
    allowed = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in allowed:
        raise ValueError(f"precision is one of {', '.join(allowed)}, not {precision!r}.")
    return allowed[precision]


def _file_stamp(weights: Weights) -> tuple[int, int] | None:
    """Changes when a weights file is written anew, so that the cache does not serve the old one."""
    if weights in ("default", None) or not Path(str(weights)).is_file():
        return None
    stat = Path(str(weights)).stat()
    return stat.st_mtime_ns, stat.st_size
