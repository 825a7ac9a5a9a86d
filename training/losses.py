"""Losses that bring a feature's norm and its cosine with the class weight into line.

Kim et al., "Bridging the Gap between Classification and Localization for WSOL", CVPR 2022: CAM is
‖w‖·‖F(u)‖·cos(F(u), w), and a classifier is free to put either factor where the object is not.

Every region's mean is taken within each image and then over the images, so that the losses of two
halves of a batch average to the whole batch's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch.nn import functional

Over = Literal["target", "max"]

# Below it a feature or a class weight has no direction; cos is 0 there.
TINY = 1e-12


class AlignmentLosses(NamedTuple):
    """The two losses of one batch, scalars."""

    sim: torch.Tensor
    norm: torch.Tensor


def alignment_losses(
    feature_map: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    foreground_threshold: float = 0.4,
    background_threshold: float = 0.2,
    norm_over: Over = "max",
) -> AlignmentLosses:
    """The similarity and the norm alignment loss (Kim et al., CVPR 2022, section 3.2).

    With F̂(u) the feature norm, min-max normalized within each image, and S_k(u) the cosine of the
    feature and the weight of class k:

        sim  = mean S_target where F̂ < background_threshold − mean where F̂ > foreground_threshold
        norm = mean F̂ where S < 0 − mean F̂ where S > 0,  S = S_target or max_k S_k

    The mean over an empty region is 0. Where F̂ or S only says which positions belong to a region,
    no gradient flows through it, since a comparison has none.

    Args:
        feature_map: (B,C,h,w).
        weight: (K,C), the classifier's.
        target: (B,) int64, the labels.
        foreground_threshold: τ_fg in [0,1].
        background_threshold: τ_bg in [0,1].
        norm_over: whose cosine divides the positions in `norm`: "target" as the paper does on
            ILSVRC, "max" over all classes as on CUB, where all classes are birds.

    Raises:
        ValueError: shapes that do not fit together, or an unknown `norm_over`.
    """
    _check(feature_map, weight, target)
    if norm_over not in ("target", "max"):
        raise ValueError(f"norm_over is target or max, not {norm_over!r}.")
    # In bfloat16 a sign, and with it a position's region, would often be another one.
    with torch.autocast(feature_map.device.type, enabled=False):
        length = torch.linalg.vector_norm(feature_map, dim=1)
        directions = direction(weight)
        # Over the length behind the product: no second map of C channels is made.
        product = torch.einsum("bchw,bc->bhw", feature_map, directions[target])
        similarity = product / torch.where(length > TINY, length, 1.0)
        deciding = similarity
        if norm_over == "max":
            with torch.no_grad():  # only its sign counts, which the length does not change
                deciding = torch.einsum("bchw,kc->bkhw", feature_map, directions).amax(dim=1)
    norm = min_max(length)
    background, foreground = norm < background_threshold, norm > foreground_threshold
    return AlignmentLosses(
        sim=region_mean(similarity, background) - region_mean(similarity, foreground),
        norm=region_mean(norm, deciding < 0) - region_mean(norm, deciding > 0),
    )


def direction(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors along the second axis over their length; one without a length stays 0."""
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    # Over 1 rather than over something tiny, by which the gradient would grow without bound.
    return vectors / torch.where(length > TINY, length, 1.0)


def min_max(maps: torch.Tensor) -> torch.Tensor:
    """(B,h,w) to [0,1] within each image; a constant map becomes 0."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / torch.where(high - low > TINY, high - low, 1.0)


def region_mean(values: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """The mean of (B,h,w) values where a (B,h,w) mask is true, within each image, over the images.

    An image without such a position counts as 0.
    """
    count = region.sum(dim=(1, 2)).clamp_min(1)
    return (torch.where(region, values, 0.0).sum(dim=(1, 2)) / count).mean()


def drop_loss(feature_map: torch.Tensor, erased: torch.Tensor) -> torch.Tensor:
    """L1 between the map and the map of the same images with a part erased, a scalar.

    Kim et al., CVPR 2022, section 3.3: what is left of the object should light up as well.
    """
    return functional.l1_loss(feature_map, erased)


def map_square_loss(cam: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """The mean square of M̂ − T̂, both (B,h,w) min-max normalized within each image, a scalar."""
    return (min_max(cam) - min_max(taught)).square().mean()


def map_correlation_loss(cam: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """1 − the correlation of two maps (B,h,w) over their positions, the mean over the images.

    A constant map correlates with nothing: 0.
    """
    centred = [m.flatten(1) - m.flatten(1).mean(dim=1, keepdim=True) for m in (cam, taught)]
    return 1 - functional.cosine_similarity(centred[0], centred[1], dim=1).mean()


def _check(feature_map: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> None:
    if (
        feature_map.ndim != 4
        or weight.ndim != 2
        or weight.shape[1] != feature_map.shape[1]
        or target.shape != (len(feature_map),)
    ):
        raise ValueError(
            "alignment_losses takes a feature_map (B,C,h,w), a weight (K,C) and a target (B,), not "
            f"{tuple(feature_map.shape)}, {tuple(weight.shape)} and {tuple(target.shape)}."
        )
