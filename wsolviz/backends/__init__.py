"""Backbones. Importing this package fills BACKBONES; a new backbone is one file plus its import."""

from wsolviz.backends import (  # noqa: F401
    convnext_cub,
    efficientnet_lite,
    identify,
    replknet,
    slak,
    small,
    timm_backbone,
    uploads,
    wsol_cam,
    zoo_backbones,
)
from wsolviz.backends.loading import BACKBONES, load_backbone

__all__ = ["BACKBONES", "load_backbone"]
