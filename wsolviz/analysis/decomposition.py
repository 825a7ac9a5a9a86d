"""The factors of CAM (Kim et al., CVPR 2022, arXiv 2204.00220, Eq. 2): norm, norm and cosine."""

from __future__ import annotations

from typing import NamedTuple

import torch

from wsolviz.analysis.cam import class_activation_map
from wsolviz.methods import Numbers, Quantity, method
from wsolviz.types import ClassIndex, Features


class Decomposition(NamedTuple):
    """CAM as a product: M(u) = weight_norm · feature_norm(u) · cosine(u).

    Attributes:
        weight_norm: (B,), ‖w_k‖.
        feature_norm: (B,h,w), ‖F(u)‖.
        cosine: (B,h,w), cos(F(u), w_k) in [-1,1]; 0 where a norm is 0.
    """

    weight_norm: torch.Tensor
    feature_norm: torch.Tensor
    cosine: torch.Tensor


WEIGHT_NORM = Quantity("‖w‖", "Norm of the class weight: one factor of CAM, the same everywhere.")


def decompose(features: Features, class_index: ClassIndex = None) -> Decomposition:
    """Split CAM of one class for each image into its three factors."""
    weight_norm = features.class_weight(class_index).norm(dim=1)
    feature_norm = features.feature_map.norm(dim=1)
    product = weight_norm[:, None, None] * feature_norm
    cam = class_activation_map(features, class_index)
    cosine = torch.where(product > 0, cam / product.clamp_min(1e-30), 0)
    return Decomposition(weight_norm, feature_norm, cosine.clamp(-1, 1))


@method("feature_norm", "‖F‖")
def feature_norm(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Norm of the feature at every position: how strongly the network responds, to any class."""
    del class_index  # the same for every class
    return features.feature_map.norm(dim=1)


@method("cosine", "cosine", signed=True, quantities={"weight_norm": WEIGHT_NORM})
def cosine(features: Features, class_index: ClassIndex = None) -> tuple[torch.Tensor, Numbers]:
    """Cosine between the feature and the class weight: how well a position points at the class."""
    parts = decompose(features, class_index)
    return parts.cosine, {"weight_norm": parts.weight_norm}
