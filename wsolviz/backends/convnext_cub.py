"""The ConvNeXt that CAM Back Again fine-tuned on CUB (Yasuki & Taki, CVPR 2024).

timm's ConvNeXt-Base cut off behind its stages, then global average and one linear layer: the
LayerNorm before the classifier is gone. Parameter names are those of the paper's checkpoint, in
which "0.0" is timm's stem, "0.1" its stages and "1.fc" the classifier.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from PIL import Image
from torch import nn

from wsolviz.backends.architecture import Architecture, register_architecture
from wsolviz.preprocess import Preprocessing


class AverageLinear(nn.Module):
    """Global average and a linear classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K)."""
        logits: torch.Tensor = self.fc(feature_map.mean(dim=(2, 3)))
        return logits


class ConvNextCub(nn.Sequential):
    """Stem and stages, average, linear.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int = 200) -> None:
        whole: Any = timm.create_model("convnext_base", pretrained=False, num_classes=0)
        super().__init__(
            nn.Sequential(whole.stem, whole.stages),
            AverageLinear(whole.num_features, num_classes),
        )

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,1024,H/32,W/32)."""
        feature_map: torch.Tensor = self[0](images)
        return feature_map

    def forward_head(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K)."""
        logits: torch.Tensor = self[1](feature_map)
        return logits


PAPERS_INPUT = Preprocessing(
    size=(384, 384),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation=Image.Resampling.BILINEAR,
)

register_architecture(
    Architecture(
        name="convnext_base_cub",
        help="CAM Back Again's ConvNeXt-Base for CUB, no norm before the classifier",
        build=ConvNextCub,
        classifier="1.fc",
        num_classes=200,
        preprocessing=PAPERS_INPUT,
    )
)
