"""Any model of timm as a backbone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import nn

from wsolviz.backends import timm_models
from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.inner_map import (
    InnerMapBackbone,
    counts_everywhere,
    find_place,
    random_projection,
)
from wsolviz.backends.layout import Layout, infer_layout
from wsolviz.backends.loading import LoadRequest, register_backbone
from wsolviz.errors import with_public_text
from wsolviz.preprocess import Preprocessing


class TimmBackbone(Backbone):
    """A timm model whose logits are made of the map that its `forward_features` gives.

    Attributes:
        layout: how that map is laid out.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        preprocessing: Preprocessing,
        layout: Layout,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, module, preprocessing, **kwargs)
        self.layout = layout

    def forward_map(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,C,h,w): what `forward_features` gives."""
        features: torch.Tensor = _model(module).forward_features(images)
        return self.layout.to_map(features, (images.shape[2], images.shape[3]))

    def forward_head(self, module: nn.Module, activation: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K); differentiable."""
        logits: torch.Tensor = _model(module).forward_head(self.layout.from_map(activation))
        return logits


def load_timm(
    name: str,
    weights: str | Path | None = "default",
    num_classes: int | None = None,
    *,
    device: torch.device | str = "cpu",
    output_stride: int | None = None,
    precision: torch.dtype = torch.float32,
) -> Backbone:
    """A timm model as a backbone.

    Args:
        name: timm's name with or without a tag, "timm/" before it or not.
        weights: "default" (timm's hub), None (random), or a .safetensors / .pth file.
        num_classes: K; None for the model's own.
        device: where to put it.
        output_stride: input pixels a cell of the last map; None for the model's own.
        precision: what `extract` computes in.

    Raises:
        ValueError: an unknown name, an output stride that the family does not offer, weights that
            do not fit, or a model without a classifier or a spatial map.
        FileNotFoundError: weights that are not there and cannot be fetched.
    """
    name = name.removeprefix("timm/")
    module, info = timm_models.build(name, weights, num_classes, output_stride)
    return as_backbone(f"timm/{name}", module.to(device), info, precision)


@register_backbone("timm/", "any model of timm by its name, with or without a weights' tag")
def _load(request: LoadRequest) -> Backbone:
    return load_timm(
        request.name,
        request.weights,
        request.num_classes,
        device=request.device,
        output_stride=request.output_stride,
        precision=request.precision,
    )


def as_backbone(
    name: str,
    module: Any,
    weights: WeightsInfo,
    precision: torch.dtype = torch.float32,
) -> Backbone:
    """A built timm model as a backbone; its map is the last one that every position counts in.

    Raises:
        ValueError: no classifier, or no spatial map anywhere.
    """
    if module.num_classes < 1:
        missing = f"{name} has no classifier, so there is no class to explain"
        raise with_public_text(
            ValueError(f"{missing}; give num_classes (and weights that hold a classifier)."),
            f"{missing}; take another backbone.",
        )
    module.eval().requires_grad_(False)
    preprocessing = _preprocessing(module)
    options: dict[str, Any] = {
        "class_names": _class_names(module),
        "weights": weights,
        "precision": precision,
    }
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, *preprocessing.size, generator=generator)
    images = images.to(next(module.parameters()).device)
    layout = _final_layout(module, images)
    if layout is not None:
        return TimmBackbone(name, module, preprocessing, layout, **options)
    place = find_place(
        module,
        images,
        lambda x: module.forward_head(module.forward_features(x), pre_logits=True),
        getattr(module, "num_prefix_tokens", None),
    )
    if place is None:
        raise ValueError(
            f"{name} has no spatial map that its classes depend on: no output of "
            "forward_features or of a norm inside has a place for every part of the image, so "
            "there is nothing to draw on the photo."
        )
    return InnerMapBackbone(name, module, preprocessing, place, **options)


def _model(module: nn.Module) -> Any:
    """The module as timm's model, whose methods `nn.Module` does not declare."""
    return module


def _final_layout(module: Any, images: torch.Tensor) -> Layout | None:
    """The layout of what `forward_features` gives, if the logits are made of its map alone."""
    size = (images.shape[2], images.shape[3])
    with torch.no_grad():
        features = module.forward_features(images)
    if not isinstance(features, torch.Tensor):
        return None
    prefix = getattr(module, "num_prefix_tokens", None)
    layout = infer_layout(tuple(features.shape), size, module.num_features, prefix)
    if layout is None:
        return None
    with torch.no_grad():
        feature_map = layout.to_map(features, size)
        expected = module.forward_head(features)
        replayed = module.forward_head(layout.from_map(feature_map))
    with torch.enable_grad():
        features.requires_grad_()
        pooled = random_projection(module.forward_head(features, pre_logits=True))
        (gradient,) = torch.autograd.grad(pooled, features)
    alone = torch.allclose(replayed, expected, rtol=1e-4, atol=1e-6)
    return layout if alone and counts_everywhere(layout.to_map(gradient, size)) else None


def _preprocessing(module: Any) -> Preprocessing:
    """Size, mean, std and filter from timm's configuration; never its crop."""
    config: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    return Preprocessing(
        size=tuple(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=Image.Resampling[config["interpolation"].upper()],
    )


def _class_names(module: Any) -> tuple[str, ...]:
    """ImageNet's names where the configuration has as many classes as the model; else none."""
    if module.pretrained_cfg.get("num_classes") != module.num_classes:
        return ()
    subset = infer_imagenet_subset(module)
    return () if subset is None else _imagenet_names(subset)


@cache
def _imagenet_names(subset: str) -> tuple[str, ...]:
    return tuple(ImageNetInfo(subset).label_descriptions())
