"""`load_backbone`: from a name to a network that is loaded once and shared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from wsolviz.backends.base import Backbone
from wsolviz.backends.checkpoints import MisfitError
from wsolviz.backends.own_format import read_header
from wsolviz.cache import ByteBoundedCache
from wsolviz.defaults import DEFAULTS
from wsolviz.errors import public_text, with_public_text
from wsolviz.registry import Registry
from wsolviz.types import Precision

OUTPUT_STRIDES = (8, 16, 32)
FILE_FAMILY = "file/"  # before the path of a weights file that says itself what it is
# Stands behind why weights cannot be loaded; the command line can only name a backbone.
OTHER_WEIGHTS = (
    f"Or take the backbone {FILE_FAMILY}PATH, with the path of a weights file; in Python also "
    "weights=FILE, or weights=None for random ones."
)

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


def _nothing() -> str:
    return ""


def _no_file(_name: str) -> None:
    return None


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be asked for by name, or, where the name ends in "/", a whole family.

    Attributes:
        name: what `load_backbone` takes, or how such names begin.
        help: in a few words.
        load: makes the backbone.
        missing: why it cannot be loaded with its default weights now, and what to do; "" if it can.
        default_file: where a name's default weights lie; None where that is not ours to know.
        network: the architecture or timm model that it is; "" where `name` says it.
    """

    name: str
    help: str
    load: Callable[[LoadRequest], Backbone]
    missing: Callable[[], str] = _nothing
    default_file: Callable[[str], Path | None] = _no_file
    network: str = ""

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


def recount(backbone: Backbone) -> None:
    """Count the bytes of a backbone in memory anew, which its first gradient makes more."""
    _loaded.recount(backbone)


def register_backbone(
    name: str,
    help: str,
    missing: Callable[[], str] = _nothing,
    default_file: Callable[[str], Path | None] = _no_file,
    network: str = "",
) -> Callable[[Callable[[LoadRequest], Backbone]], Callable[[LoadRequest], Backbone]]:
    """Register the function that loads a backbone, or a family where `name` ends in "/"."""

    def register(load: Callable[[LoadRequest], Backbone]) -> Callable[[LoadRequest], Backbone]:
        BACKBONES.register(name, BackboneEntry(name, help, load, missing, default_file, network))
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
    shared: bool = True,
) -> Backbone:
    """Load a backbone; one load serves every caller.

    Args:
        name: "efficientnet_lite0", "timm/<any timm model[.tag]>", "file/<path of a weights file>",
            an entry of the zoo … (see `BACKBONES`).
        weights: "default" (what comes with the backbone, the zoo's or timm's hub's), None (random,
            and not shared), or a .safetensors / .pth file.
        num_classes: K; None for the weights' own.
        device: "auto" takes CUDA or MPS when there is one, else the CPU.
        output_stride: input pixels a cell of the feature map, where the architecture offers a
            choice; smaller gives a finer map without training.
        precision: "float32", or autocast to "bfloat16" or "float16".
        shared: False for one that is nobody else's, so that its weights may be changed.

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
    if weights is None or not shared:
        return _load_checked(entry, request)
    file = entry.default_file(name) if weights == "default" else Path(weights)
    return _loaded.get((request, _file_stamp(file)), lambda _: _load_checked(entry, request))


def find_entry(name: str) -> BackboneEntry:
    """The entry that a name, or the family it belongs to, is registered under.

    Raises:
        UnknownNameError: there is none.
    """
    family = family_of(name)
    return BACKBONES[family if name not in BACKBONES and family in BACKBONES else name]


def family_of(name: str) -> str:
    """What a name begins with if it belongs to a family: all up to its first "/", with that."""
    return f"{name.partition('/')[0]}/"


def _load_checked(entry: BackboneEntry, request: LoadRequest) -> Backbone:
    """Load, fuse and check for exactness, so that the first photo does not wait for it."""
    header = None if request.weights in ("default", None) else read_header(request.weights)
    if header is not None and request.output_stride is None:
        request = replace(request, output_stride=header.output_stride)
    try:
        backbone = entry.load(request)
    except MisfitError as error:
        from wsolviz.backends.identify import describe_closest  # noqa: PLC0415  (needs this module)

        closest = describe_closest(error.state)
        raise with_public_text(
            ValueError(f"{error} {closest}"), f"{public_text(error)} {closest}"
        ) from error
    if request.weights not in ("default", None):
        describe_by_header(backbone, str(request.weights))
    backbone.prepare()
    _logger.info("%s: %s", request.name, backbone.inexactness or "exact")
    return backbone


def describe_by_header(backbone: Backbone, weights: str | Path) -> None:
    """Take over what a weights file of this project says about its classes and its input."""
    header = read_header(weights)
    if header is None:
        return
    backbone.class_names = header.class_names or backbone.class_names
    if header.input is not None:
        backbone.preprocessing = header.input.preprocessing()
    backbone.weights = replace(backbone.weights, licence=header.licence)


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


def _file_stamp(file: Path | None) -> tuple[Path, int, int] | None:
    """Changes when a weights file is written anew, so that the cache does not serve the old one."""
    if file is None or not file.is_file():
        return None
    stat = file.stat()
    return file, stat.st_mtime_ns, stat.st_size
