"""Maps to learn from, one a photo, made once from image labels by a network as it is.

A network's CAM is high on the part of an object that its class is told by. Its features are alike
all over the object, so what CAM says of one place can be passed on to the places that look the same
to the network: with S the seed, f(u) the feature at u less the image's mean feature, and

    A(u,v) = max(cos(f(u), f(v)), 0)^γ, each row divided by its sum,

A·S is the seed's mean over the places that are like u. Passing labels along such affinities is
semantic propagation as in AffinityNet (Ahn & Kwak, CVPR 2018), here with nothing trained.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import nn

from training.losses import min_max
from training.places import behind
from training.record.files import write_whole
from training.section import Count, Fraction, NonNegative, Section
from training.teachers import refuse_other_classes
from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import load_backbone
from wsolviz.commands.messages import messages
from wsolviz.fields.networks import weights_digest

if TYPE_CHECKING:
    from training.data.sources import PhotoSet

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
        sharpness: k of the sigmoid 1 / (1 + exp(−k·(T − midpoint))) that brings a map T nearer to
            a mask, min-max normalized again; 0 leaves it as it is.
        midpoint: the value in [0,1] that becomes 1/2.
    """

    backbone: str
    weights: str = "default"
    output_stride: int | None = None
    image_size: Count = 320
    layers: tuple[str, ...]
    exponent: NonNegative = 2.0
    steps: Count = 1
    norm_weight: NonNegative = 0.75
    sharpness: NonNegative = 0.0
    midpoint: Fraction = 0.5


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
    return sharpened(min_max(both[0] + both[1].flip(-1)), config.sharpness, config.midpoint)


def sharpened(maps: torch.Tensor, sharpness: float, midpoint: float) -> torch.Tensor:
    """Maps (B,h,w) in [0,1], brought nearer to masks; see `MapTeacherConfig`."""
    return min_max(torch.sigmoid(sharpness * (maps - midpoint))) if sharpness else maps


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


def make_maps(
    photos: PhotoSet, config: MapTeacherConfig, device: torch.device, path: Path
) -> dict[str, NDArray[np.float32]]:
    """The map of every photo by its image id; made once and kept in a file.

    A photo that cannot be read gets a map of zeros, which nobody will ask for.

    Args:
        photos: with the labels whose maps are made.
        config: the teacher and how.
        device: where it runs.
        path: of the file; one that is there is taken, if it was made from the same.

    Raises:
        ValueError: a teacher with other classes, without an exact map, or layers that do not fit.
    """
    teacher = load_backbone(
        config.backbone,
        config.weights,
        device=device,
        output_stride=config.output_stride,
        shared=False,  # or it would stay in memory all through the training
    )
    _check(teacher, photos)
    made_from = fingerprint(photos, config, weights_digest(teacher))
    kept = kept_maps(path, made_from)
    if kept is not None:
        return kept
    side = (config.image_size, config.image_size)
    preprocess = replace(teacher.preprocessing, size=side)
    maps: dict[str, NDArray[np.float32]] = {}
    chunks = [range(i, min(i + CHUNK, len(photos))) for i in range(0, len(photos), CHUNK)]
    for chunk in track(chunks, "maps of the teacher", console=messages):
        read = [(index, photo) for index in chunk if (photo := _read(photos, index)) is not None]
        if read:
            images = torch.stack([preprocess(photo) for _, photo in read]).to(device)
            target = torch.from_numpy(photos.labels[[index for index, _ in read]]).to(device)
            made = teacher_maps(teacher, images, target, config).cpu().numpy()
            maps |= {photos.image_ids[i]: m for (i, _), m in zip(read, made, strict=True)}
    if not maps:
        raise ValueError("Not one photo of data.train can be read.")
    blank = np.zeros_like(next(iter(maps.values())))
    maps = {image_id: maps.get(image_id, blank) for image_id in photos.image_ids}
    keep_maps(maps, path, made_from)
    return kept_maps(path, made_from) or maps


def _read(photos: PhotoSet, index: int) -> Image.Image | None:
    try:
        return photos.read(index)
    except (ValueError, OSError):
        return None  # the loader will name it


def _check(teacher: Backbone, photos: PhotoSet) -> None:
    if teacher.head is None:
        raise ValueError(f"method.teacher {teacher.name} has no exact map: {teacher.inexactness}.")
    refuse_other_classes("method.teacher", teacher, photos.num_classes, photos.class_names)


def fingerprint(photos: PhotoSet, config: MapTeacherConfig, weights: str) -> str:
    """Changes with the photos, their labels, and what makes maps of them.

    Args:
        photos: that maps are made of.
        config: how.
        weights: what names the teacher's, see `weights_digest`; a file's name stays the same when
            other weights are written into it.
    """
    text = repr((photos.image_ids, photos.labels.tolist(), config.model_dump_json(), weights))
    return hashlib.sha256(text.encode()).hexdigest()


def keep_maps(maps: Mapping[str, NDArray[np.float32]], path: Path, made_from: str) -> None:
    """Write maps by image id, whole or not at all.

    Raises:
        OSError: they cannot be written; names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    stacked = np.stack(list(maps.values())).astype(np.float16)
    np.savez(buffer, made_from=made_from, ids=np.array(list(maps)), maps=stacked)
    write_whole(path, buffer.getvalue())


def kept_maps(path: Path, made_from: str) -> dict[str, NDArray[np.float32]] | None:
    """What `keep_maps` wrote; None where nothing was, or from something else."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        if "made_from" not in kept or str(kept["made_from"]) != made_from:
            return None
        maps = kept["maps"].astype(np.float32)
        return dict(zip(kept["ids"].tolist(), maps, strict=True))
