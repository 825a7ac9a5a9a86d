"""wsolviz: what an image classifier localizes, and why.

import wsolviz

backbone = wsolviz.load_backbone("efficientnet_lite0")
for explanation in wsolviz.explain("photo.jpg", backbone, ["cam", "pc1"]):
    print(explanation.method, explanation.boxes_at(0.3))
"""

from wsolviz import openmp  # noqa: F401  (first: it must come before torch)

# isort: split

from wsolviz import analysis, backends, evaluation  # noqa: F401  (two fill the registries)
from wsolviz.analysis.boxes import boxes_at_levels
from wsolviz.analysis.erf import erf_area
from wsolviz.analysis.scoremap import scoremap
from wsolviz.backends.loading import BACKBONES, load_backbone
from wsolviz.explain import explain
from wsolviz.methods import METHODS, PICTURES
from wsolviz.receptive_field import erf
from wsolviz.types import Explanation, Features
from wsolviz.version import __version__

__all__ = [
    "BACKBONES",
    "METHODS",
    "PICTURES",
    "Explanation",
    "Features",
    "__version__",
    "boxes_at_levels",
    "erf",
    "erf_area",
    "evaluation",
    "explain",
    "load_backbone",
    "scoremap",
]
