"""VGG16-CAM and ResNet50-CAM as the WSOL benchmark defines them (Choe et al., CVPR 2020).

torchvision's networks with fewer strides, so that a 224×224 image gives a 14×14 or 28×28 map, and
a head of global average and one linear layer (Zhou et al., CVPR 2016). The parameter names are
those of the benchmark's checkpoints (MIT licence). Training with attentive dropout (Kim et al.,
CVPR 2022) leaves the same network under names that were split around the dropout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import make_layers

from wsolviz.backends.architecture import Architecture, register_architecture

# Layers of VGG16 up to and with conv4_3's ReLU, behind which attentive dropout stands.
BEFORE_DROPOUT = 23
CONVOLUTIONS: tuple[tuple[str | int, ...], ...] = (
    (64, 64, "M"),
    (128, 128, "M"),
    (256, 256, 256, "M"),
    (512, 512, 512),
    (512, 512, 512),
)


class Vgg16Cam(nn.Module):
    """VGG16 without its last one or two poolings, one more convolution, average, linear.

    Args:
        output_stride: 16 for a 14×14 map of a 224×224 image, 8 for 28×28.
        num_classes: K.
    """

    def __init__(self, output_stride: int = 16, num_classes: int = 1000) -> None:
        super().__init__()
        *early, last = CONVOLUTIONS
        pooling: tuple[str | int, ...] = ("M",) if output_stride == 16 else ()
        self.features = make_layers([*(side for block in early for side in block), *pooling, *last])
        self.conv6 = nn.Conv2d(512, 1024, 3, padding=1)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, num_classes)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,1024,h,w)."""
        feature_map: torch.Tensor = self.relu(self.conv6(self.features(images)))
        return feature_map

    def forward_head(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K)."""
        logits: torch.Tensor = self.fc(self.avgpool(feature_map).flatten(1))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to the logits (B,K)."""
        return self.forward_head(self.forward_features(images))


class ResNet50Cam(ResNet):  # type: ignore[misc]  # torchvision has no type hints
    """ResNet50 whose last stage, and for 28×28 maps the one before it, keeps its resolution.

    Args:
        output_stride: 16 for a 14×14 map of a 224×224 image, 8 for 28×28.
        num_classes: K.
    """

    def __init__(self, output_stride: int = 8, num_classes: int = 1000) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes)
        kept = [self.layer4] if output_stride == 16 else [self.layer3, self.layer4]
        for stage in kept:
            first = stage[0]
            first.conv2.stride = first.downsample[0].stride = (1, 1)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,2048,h,w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        feature_map: torch.Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return feature_map

    def forward_head(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K)."""
        logits: torch.Tensor = self.fc(self.avgpool(feature_map).flatten(1))
        return logits


def to_vgg_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo the split around attentive dropout: features.0.*, features.2.* to features.*."""

    def rename(found: re.Match[str]) -> str:
        offset = BEFORE_DROPOUT if found[1] == "2" else 0
        return f"features.{int(found[2]) + offset}."

    return {re.sub(r"^features\.([02])\.(\d+)\.", rename, k): v for k, v in state.items()}


def to_resnet_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo the split around attentive dropout: layer4_1.*, layer4_2.* to layer4.*."""

    def rename(found: re.Match[str]) -> str:
        return f"layer4.{int(found[2]) + int(found[1]) - 1}."

    return {re.sub(r"^layer4_([12])\.(\d+)\.", rename, k): v for k, v in state.items()}


def _vgg_stride_of(state: Mapping[str, torch.Tensor]) -> int | None:
    """The pooling before the last block moves the numbers of the layers behind it by one."""
    names = {int(k.split(".")[1]) for k in state if re.match(r"features\.\d+\.weight", k)}
    return {28: 16, 27: 8}.get(max(names, default=0))


register_architecture(
    Architecture(
        name="vgg16_cam",
        help="the WSOL benchmark's VGG16, 14×14 or 28×28 maps",
        build=partial(Vgg16Cam),
        classifier="fc",
        output_strides=(16, 8),
        output_stride_of=_vgg_stride_of,
        rename=to_vgg_names,
    )
)
register_architecture(
    Architecture(
        name="resnet50_cam",
        help="the WSOL benchmark's ResNet50, 28×28 or 14×14 maps",
        build=partial(ResNet50Cam),
        classifier="fc",
        output_strides=(8, 16),
        rename=to_resnet_names,
        twins=("timm/resnet50",),
    )
)
