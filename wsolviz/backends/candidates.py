"""Networks that a state dict may be for, the likeliest first: our own, then timm's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch

from wsolviz.backends import timm_models
from wsolviz.backends.architecture import ARCHITECTURES, Architecture
from wsolviz.backends.checkpoints import Checkpoint, misfits
from wsolviz.backends.loading import find_entry

# Shares of parameter patterns in common below which a family of timm is not looked into.
FEWEST_COMMON = 0.5
# Families whose renaming of official files works with the very model alone, so that the patterns of
# another one cannot be compared: a name in their official files.
OFFICIAL_NAMES = {"convnext": "stages.0.0.dwconv.weight"}
FAMILIES = 2  # how many are looked into; the patterns of near relatives are the same

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Candidate:
    """A network held against a state dict.

    Attributes:
        backbone: what `load_backbone` takes.
        num_classes: K that the network was built with.
        own: the network's names and (empty) tensors.
        given: the state dict's, under the network's names.
        twins: further backbones with the same names and shapes.
    """

    backbone: str
    num_classes: int
    own: Mapping[str, torch.Tensor]
    given: Mapping[str, torch.Tensor]
    twins: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every name and shape is the same."""
        return _shapes(self.own) == _shapes(self.given)

    @property
    def likeness(self) -> float:
        """Tensors with the same name and shape, over all names; in [0,1]."""
        own, given = _shapes(self.own), _shapes(self.given)
        return len(own.items() & given.items()) / max(len(own.keys() | given.keys()), 1)

    @property
    def problems(self) -> str:
        """What keeps the state dict from fitting, in words."""
        return misfits(self.own, self.given)


def candidates(checkpoint: Checkpoint, hint: str = "") -> Iterator[Candidate]:
    """Networks that a checkpoint may be for.

    Nothing is computed and no memory taken: the networks are built without their numbers.

    Args:
        checkpoint: its tensors' names and shapes, and what it says of itself.
        hint: the file's name; networks with a like name are tried sooner.
    """
    with torch.device("meta"):
        given = {name: torch.empty_like(t) for name, t in checkpoint.state.items()}
    for architecture in ARCHITECTURES.values():
        yield _own(architecture, given)
    declared = (checkpoint.declared or "").removeprefix("timm/")
    if timm.is_model(declared):
        yield from _timm(declared, given)
    for name in _likely_models(given, f"{declared} {hint}"):
        yield from _timm(name, given)


def candidate_of(backbone: str, shapes: Mapping[str, Sequence[int]]) -> Candidate | None:
    """A backbone held against the names and shapes of a file, without its numbers.

    Args:
        backbone: what `load_backbone` takes; no family, and no file.
        shapes: of the file's tensors.

    Returns:
        None for a model that timm does not have or cannot build.

    Raises:
        UnknownNameError: there is no such backbone.
    """
    network = find_entry(backbone).network or backbone
    with torch.device("meta"):
        given = {name: torch.empty(tuple(shape)) for name, shape in shapes.items()}
    architecture = ARCHITECTURES.get(network.partition("/")[0])
    if architecture is not None:
        return _own(architecture, given)
    return next(_timm(network.removeprefix("timm/"), given), None)


def _own(architecture: Architecture, given: Mapping[str, torch.Tensor]) -> Candidate:
    renamed = architecture.rename(given)
    with torch.device("meta"):
        module = architecture.make_for(renamed)
    name = architecture.name + architecture.variant_of(renamed)
    own = module.state_dict()
    classes = len(own[f"{architecture.classifier}.weight"])
    twins = architecture.twins if renamed.keys() == given.keys() else ()
    return Candidate(name, classes, own, renamed, twins)


def _timm(name: str, given: Mapping[str, torch.Tensor]) -> Iterator[Candidate]:
    """A model of timm with as many classes as the state dict has; none if it cannot be built."""
    try:
        with torch.device("meta"):
            module: Any = timm.create_model(name)
            renamed = _renamed(given, module)
            classes = timm_models.classes_of(renamed, name) or int(module.num_classes)
            if classes != module.num_classes:
                module = timm.create_model(name, num_classes=classes)
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError):
        return  # what cannot be built in this way is no candidate
    yield Candidate(f"timm/{name}", classes, module.state_dict(), renamed)


def _likely_models(given: Mapping[str, torch.Tensor], hint: str) -> list[str]:
    """Models of the timm families whose parameters have the same patterns of names."""
    scores = {}
    for family, (module, patterns) in _families().items():
        found = _patterns(_renamed(given, module))
        score = len(found & patterns) / max(len(found | patterns), 1)
        if OFFICIAL_NAMES.get(family) in given:
            score = 1.0
        if score >= FEWEST_COMMON:
            scores[family] = score
    best = sorted(scores, key=lambda family: scores[family], reverse=True)[:FAMILIES]
    names = [name for family in best for name in timm.list_models(module=family)]
    like = difflib.SequenceMatcher(None, b=hint)

    def key(name: str) -> tuple[float, int]:
        like.set_seq1(name)
        return -like.ratio(), len(name)

    return sorted(names, key=key)


@cache
def _families() -> dict[str, tuple[Any, frozenset[str]]]:
    """A model of each of timm's families, without numbers, and the patterns of its names."""
    found = {}
    for family in timm.list_modules():
        names = timm.list_models(module=family)
        if names:
            with torch.device("meta"):
                module = timm.create_model(names[0])
            found[family] = (module, _patterns(module.state_dict()))
    return found


def _renamed(given: Mapping[str, torch.Tensor], module: Any) -> Mapping[str, torch.Tensor]:
    """As the model's family renames official checkpoints, where it can take this one for one."""
    try:
        return timm_models.renamed(given, module)
    except Exception:
        return given


def _patterns(names: Mapping[str, torch.Tensor]) -> frozenset[str]:
    return frozenset(re.sub(r"\d+", "#", name) for name in names)


def _shapes(state: Mapping[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
