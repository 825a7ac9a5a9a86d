"""Every default of the app, the command line, the report and the API: this one dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from wsolviz.types import Contours, Precision, Space


@dataclass(frozen=True)
class Defaults:
    """What happens when nobody says otherwise.

    Attributes:
        backbones: compared on the first visit, a classifier as it is beside one that was trained to
            localize; real weights that need no network.
        methods: columns of the grid.
        cam_threshold: share of the score map's range, from its lowest value to its highest, above
            which a pixel is foreground.
        contours: which contours give boxes.
        space: feature space.
        precision: of the forward pass.
        opacity: of the heatmap over the photo, in [0,1].
        colormap: for maps that are not signed; see `wsolviz.render.SEQUENTIAL`.
        diverging_colormap: for signed maps, drawn around zero.
        display_size: longest side of the score map and of the photo as shown, in pixels.
        top_classes: how many classes are listed with their probabilities.
        max_backbones: how many are compared at once.
        backbone_cache_bytes: networks kept in memory, for all visitors together.
        max_checkpoint_bytes: the largest weights file that is read.
        features_cache_bytes: features and panels of past photos kept, so that another class or
            method does not run the network again.
        erf_size: side of the network's input for effective receptive fields, in pixels, and
        erf_images: photos that they are the mean over: the papers' setting.
        erf_cache_bytes: receptive fields kept on disk, so that none is measured twice.
        asked_fields_bytes: fields kept in memory of places that were clicked.
    """

    backbones: tuple[str, ...] = ("efficientnet_lite0", "efficientnet_lite0.wsol")
    methods: tuple[str, ...] = ("cam", "pc1", "feature_norm", "cosine")
    cam_threshold: float = 0.3
    contours: Contours = "largest"
    space: Space = "logit"
    precision: Precision = "float32"
    opacity: float = 0.6
    colormap: str = "turbo"
    diverging_colormap: str = "coolwarm"
    display_size: int = 384
    top_classes: int = 5
    max_backbones: int = 4
    backbone_cache_bytes: int = 4 << 30
    max_checkpoint_bytes: int = 8 << 30
    features_cache_bytes: int = 512 << 20
    erf_size: int = 1024
    erf_images: int = 50
    erf_cache_bytes: int = 2 << 30
    asked_fields_bytes: int = 64 << 20


DEFAULTS = Defaults()
