"""Maps to learn from, one a photo, made once from image labels by a network as it is.

A network's CAM is high on the part of an object that its class is told by. Its features are alike
all over the object, so what CAM says of one place can be passed on to the places that look the same
to the network: with S the seed, f(u) the feature at u less the image's mean feature, and

    A(u,v) = max(cos(f(u), f(v)), 0)^γ, each row divided by its sum,

A·S is the seed's mean over the places that are like u. Passing labels along such affinities is
semantic propagation as in AffinityNet (Ahn & Kwak, CVPR 2018), here with nothing trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.losses import min_max
from training.places import behind
from training.section import Count, NonNegative, Section
from wsolviz.backends.base import Backbone

FILE = "target_maps.npz"
CHUNK = 8  # photos a pass


class MapTeacherConfig(Section):
    """The network that makes the maps, as it is, and how.

    Attributes:
        backbone: with the student's classes.
        weights: "default" or a file.
        output_stride: input pixels a cell of its map.
        image_size: side of its input in pixels.
        layers: names of layers whose features say which places are alike; maps of one size.
        exponent: γ.
        steps: how often the seed is passed on.
        norm_weight: of ‖F‖ beside CAM in the seed, each min-max normalized.
    """

    backbone: str
    weights: str = "default"
    output_stride: int | None = None
    image_size: Count = 320
    layers: tuple[str, ...]
    exponent: NonNegative = 2.0
    steps: Count = 1
    norm_weight: NonNegative = 0.75


def affinity(features: torch.Tensor, exponent: float) -> torch.Tensor:
    """(B,C,h,w) to (B,h·w,h·w): A of this module's head, rows summing to 1."""
    vectors = features.flatten(2)
    vectors = vectors - vectors.mean(dim=2, keepdim=True)
    directions = nn.functional.normalize(vectors, dim=1, eps=1e-6)
    alike = torch.bmm(directions.transpose(1, 2), directions).clamp_min(0) ** exponent
    return alike / alike.sum(dim=2, keepdim=True).clamp_min(1e-12)


def passed_on(
    seed: torch.Tensor, features: Sequence[torch.Tensor], exponent: float, steps: int
) -> torch.Tensor:
    """A seed (B,h,w) passed on by the affinities of each of several maps; the mean of what comes.

    Args:
        seed: in [0,1].
        features: maps (B,C,h,w) of the seed's size.
        exponent: γ.
        steps: how often.

    Returns:
        (B,h,w) in [0,1].
    """
    results = []
    for feature_map in features:
        matrix, values = affinity(feature_map, exponent), seed.flatten(1)[:, :, None]
        for _ in range(steps):
            values = torch.bmm(matrix, values)
        results.append(min_max(values.reshape(seed.shape)))
    return min_max(torch.stack(results).mean(dim=0))


@torch.no_grad()
def teacher_maps(
    teacher: Backbone, images: torch.Tensor, target: torch.Tensor, config: MapTeacherConfig
) -> torch.Tensor:
    """Maps (B,h,w) in [0,1] of the images' classes, each the mean with the mirrored image's.

    Args:
        teacher: in eval mode.
        images: (B,3,H,W), as it takes them.
        target: (B,), its classes.
        config: how.
    """
    both = [_one_way(teacher, view, target, config) for view in (images, images.flip(-1))]
    return min_max(both[0] + both[1].flip(-1))


def _one_way(
    teacher: Backbone, images: torch.Tensor, target: torch.Tensor, config: MapTeacherConfig
) -> torch.Tensor:
    caught: dict[str, torch.Tensor] = {}

    def catch(name: str) -> Callable[[torch.Tensor], None]:
        return lambda output: caught.__setitem__(name, output)

    head = teacher.head
    assert head is not None, "the caller has looked"
    with behind(teacher.module, {name: catch(name) for name in config.layers}):
        activation = teacher.forward_map(teacher.module, images)
    feature_map, weight, _ = head.features(activation, "logit")
    cam = torch.einsum("bchw,bc->bhw", feature_map, weight[target])
    norm = torch.linalg.vector_norm(feature_map, dim=1)
    seed = min_max(min_max(cam) + config.norm_weight * min_max(norm))
    features = [caught[name] for name in config.layers]
    for name, feature in zip(config.layers, features, strict=True):
        if feature.ndim != 4 or feature.shape[2:] != seed.shape[1:]:
            raise ValueError(
                f"method.teacher.layers: {name!r} gives {tuple(feature.shape)}, not a map of the "
                f"last map's {seed.shape[1]}×{seed.shape[2]} positions."
            )
    return passed_on(seed, features, config.exponent, config.steps)


def keep_maps(maps: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Write maps by image id, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("wb") as file:
        ids = np.array(list(maps))
        np.savez(file, ids=ids, maps=np.stack(list(maps.values())).astype(np.float16))
    unfinished.replace(path)


def kept_maps(path: Path) -> dict[str, NDArray[np.float32]] | None:
    """What `keep_maps` wrote; None where nothing was."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        maps = kept["maps"].astype(np.float32)
        return dict(zip(kept["ids"].tolist(), maps, strict=True))
