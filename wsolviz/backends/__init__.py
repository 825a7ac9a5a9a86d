"""Backbones. Importing this package fills BACKBONES; a new backbone is one file plus its import."""

from wsolviz.backends import efficientnet_lite, timm_backbone  # noqa: F401
from wsolviz.backends.loading import BACKBONES, load_backbone

__all__ = ["BACKBONES", "load_backbone"]
