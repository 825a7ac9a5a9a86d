"""Loading networks with trained or with random weights, and naming weights by what they are."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import load_backbone
from wsolviz.fields.request import FieldRequest, WeightsKind

# Networks are initialized from torch's one global generator.
_generator_lock = threading.Lock()


def load_network(name: str, kind: WeightsKind, request: FieldRequest) -> Backbone:
    """A backbone as a request wants it; random weights are the same for the same seed.

    Raises:
        ValueError: see `load_backbone`.
        FileNotFoundError: trained weights that are not on disk and cannot be fetched.
    """
    if kind == "trained":
        return load_backbone(name, output_stride=request.output_stride, precision=request.precision)
    with _seeded(request.seed):
        return load_backbone(
            name, None, output_stride=request.output_stride, precision=request.precision
        )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Everything that is drawn on the CPU inside follows from the seed, and nothing outside."""
    with _generator_lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def weights_digest(backbone: Backbone) -> str:
    """What names the weights: the file's SHA-256, or that of the parameters where there is none."""
    if backbone.weights.sha256 is not None:
        return backbone.weights.sha256
    digest = hashlib.sha256()
    for name, tensor in backbone.module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
