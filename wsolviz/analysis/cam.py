"""Class activation mapping (Zhou et al., CVPR 2016)."""

from __future__ import annotations

import torch

from wsolviz.methods import method, picture
from wsolviz.types import ClassIndex, Features


@method("cam", "CAM", signed=True)
def class_activation_map(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Class activation map: how much every position adds to the class logit.

    M(u) = Σ_c w_kc·f_c(u) (Zhou et al., CVPR 2016, Eq. 2), signed and unnormalized; where the
    features are exact, its mean plus the class bias is the logit.

    Returns:
        (B,h,w).

    >>> features = Features(torch.ones(1, 2, 3, 3), torch.tensor([[2.0, -0.5]]),
    ...                     torch.zeros(1), logits=torch.tensor([[1.5]]))
    >>> float(class_activation_map(features).mean())
    1.5
    """
    weight = features.class_weight(class_index)
    return torch.einsum("bchw,bc->bhw", features.feature_map, weight)


@picture("winning_class", "Winning class")
def winning_class(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """The class with the highest score at every position, whichever class is explained.

    Returns:
        (B,h,w) int64 class indices: argmax_k Σ_c w_kc·f_c(u) + b_k.

    Raises:
        ValueError: there is no constant class weight, so a single position has no class scores.
    """
    del class_index  # all classes compete
    if not len(features.weight):
        raise ValueError(
            "The winning class needs one constant weight for each class, which this backbone does "
            "not have (its CAM is not exact); choose another picture or another backbone."
        )
    scores = torch.einsum("bchw,kc->bkhw", features.feature_map, features.weight)
    return (scores + features.bias[None, :, None, None]).argmax(dim=1)
