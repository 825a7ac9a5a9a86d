"""Networks of our own: what each is, how it is built, and how it becomes a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.checkpoints import load_strictly, read_checkpoint, rows_of, sha256_of
from wsolviz.backends.loading import OTHER_WEIGHTS, LoadRequest, register_backbone
from wsolviz.backends.released import as_released, request_for
from wsolviz.backends.zoo import ZOO, ZooEntry, default_entry
from wsolviz.errors import with_public_text, without_path
from wsolviz.preprocess import Preprocessing
from wsolviz.registry import Registry

State: TypeAlias = Mapping[str, torch.Tensor]


def _unknown(_state: State) -> int | None:
    return None


@dataclass(frozen=True)
class Architecture:
    """A network with `forward_features` and `forward_head`, and what is known of its checkpoints.

    Attributes:
        name: under which `load_backbone` knows it.
        help: in a few words.
        build: the module, with the official parameter names and random weights; takes num_classes,
            output_stride where there is a choice, and the options below.
        preprocessing: what the official checkpoints were trained for.
        num_classes: K of the official checkpoints.
        classifier: the last linear layer, whose weight tells K.
        output_strides: the choices, the usual one first; empty where there is none.
        output_stride_of: the one that a state dict was made for, None where it does not show.
        options_of: further options of `build` that a state dict was made for.
        variant_of: what a state dict's options add to the name, "/…" or nothing.
        rename: other official parameter names to the module's own; leaves those alone.
        twins: other backbones with the same names and shapes, which differ in strides.
    """

    name: str
    help: str
    build: Callable[..., nn.Module]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    num_classes: int = 1000
    classifier: str = "head"
    output_strides: tuple[int, ...] = ()
    output_stride_of: Callable[[State], int | None] = _unknown
    options_of: Callable[[State], dict[str, Any]] = field(default=lambda _state: {})
    variant_of: Callable[[State], str] = field(default=lambda _state: "")
    rename: Callable[[State], dict[str, torch.Tensor]] = dict
    twins: tuple[str, ...] = ()

    def make(
        self, num_classes: int | None = None, output_stride: int | None = None, **options: Any
    ) -> nn.Module:
        """The module with random weights.

        Args:
            num_classes: K; None for that of the official checkpoints.
            output_stride: input pixels a cell of the map; None for the usual one.
            options: of `build`.

        Raises:
            ValueError: an output stride that there is not.
        """
        if output_stride is not None and output_stride not in self.output_strides:
            allowed = ", ".join(map(str, self.output_strides)) or "only its own"
            raise ValueError(
                f"{self.name} does not take output_stride={output_stride}; it offers: {allowed}."
            )
        if self.output_strides:
            options["output_stride"] = output_stride or self.output_strides[0]
        return self.build(num_classes=num_classes or self.num_classes, **options)

    def make_for(
        self,
        state: State,
        num_classes: int | None = None,
        output_stride: int | None = None,
        **options: Any,
    ) -> nn.Module:
        """The module, not filled yet, that a state dict under the module's own names was made for.

        What the state dict says wins over what is only usual, and what is asked for over both, so
        that a request which does not fit is noticed when the weights are loaded.
        """
        classes = num_classes or rows_of(state, f"{self.classifier}.weight")
        stride = output_stride or self.output_stride_of(state)
        return self.make(classes, stride, **(self.options_of(state) | options))


ARCHITECTURES: Registry[Architecture] = Registry("architecture")
"""Networks of our own by name; filled by the modules that `wsolviz.backends` imports."""

VARIANTS: Registry[Callable[[str], dict[str, Any]]] = Registry("architecture with variants")
"""By the name of an architecture: what stands behind its slash, to options of `build`."""


def register_architecture(architecture: Architecture) -> Architecture:
    """Make a network known to `load_backbone` and to whoever asks what a checkpoint holds."""
    entry = default_entry(architecture.name)
    register_backbone(
        architecture.name,
        architecture.help,
        missing=partial(_no_weights, architecture.name) if entry is None else entry.missing,
        default_file=lambda _name: None if entry is None else entry.path,
    )(partial(load_network, architecture))
    return ARCHITECTURES.register(architecture.name, architecture)


def register_variants(
    architecture: Architecture, parse: Callable[[str], dict[str, Any]], help: str
) -> None:
    """Make "<architecture>/<text>" known, where the text says options of `build`.

    Args:
        architecture: whose variants they are.
        parse: the text behind the slash to options; a ValueError says what is allowed.
        help: how such a name is written.
    """

    def load(request: LoadRequest) -> Backbone:
        return load_network(architecture, request, parse(request.name.partition("/")[2]))

    VARIANTS.register(architecture.name, parse)
    register_backbone(f"{architecture.name}/", help)(load)


class NetworkBackbone(Backbone):
    """A network of our own as a backbone."""

    def forward_map(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,C,h,w): what `forward_features` gives."""
        feature_map: torch.Tensor = _network(module).forward_features(images)
        return feature_map

    def forward_head(self, module: nn.Module, activation: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K); differentiable."""
        logits: torch.Tensor = _network(module).forward_head(activation)
        return logits


def load_network(
    architecture: Architecture, request: LoadRequest, options: Mapping[str, Any] | None = None
) -> Backbone:
    """A network of our own with random weights or those of a file.

    Args:
        architecture: what to build.
        request: what was asked for.
        options: of `build`, where the name said some; else the weights' own.

    Raises:
        ValueError: weights or options that do not fit.
        FileNotFoundError: weights that are not there.
    """
    if request.weights == "default":
        entry = default_entry(architecture.name) if options is None else None
        if entry is None:
            missing = _no_weights(request.name)
            raise with_public_text(FileNotFoundError(f"{missing} {OTHER_WEIGHTS}"), missing)
        return load_released(architecture, request, entry)
    if request.weights is None:
        module = architecture.make(request.num_classes, request.output_stride, **(options or {}))
        info = WeightsInfo("random")
    else:
        state = architecture.rename(read_checkpoint(request.weights))
        module = architecture.make_for(
            state, request.num_classes, request.output_stride, **(options or {})
        )
        load_strictly(module, state, str(request.weights))
        info = WeightsInfo(str(request.weights), sha256_of(request.weights))
    return NetworkBackbone(
        request.name,
        module.to(request.device),
        architecture.preprocessing,
        weights=info,
        precision=request.precision,
    )


def load_released(architecture: Architecture, request: LoadRequest, entry: ZooEntry) -> Backbone:
    """A network of our own as an entry of the zoo says: its file, its input, its classes.

    Raises:
        ValueError: a file that is not the one the zoo means, or that does not fit.
        FileNotFoundError: a file that is not here; the message says how to get it.
    """
    wanted, options = request_for(entry, request), None
    if wanted.weights is None and entry.variant is not None:
        options = VARIANTS[architecture.name](entry.variant)  # which a file shows by itself
    with without_path(entry.path):
        return as_released(load_network(architecture, wanted, options), entry, request)


def _no_weights(name: str) -> str:
    checkpoints = [entry.name for entry in ZOO.values() if entry.backbone == name]
    listed = f"take one of its checkpoints: {', '.join(checkpoints)}" if checkpoints else ""
    return f"No weights come with {name} itself; {listed or 'the zoo has no checkpoint of it'}."


def _network(module: nn.Module) -> Any:
    """The module as one of our networks, whose methods `nn.Module` does not declare."""
    return module
