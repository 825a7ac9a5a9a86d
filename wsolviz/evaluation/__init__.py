"""The WSOL benchmark: MaxBoxAcc, MaxBoxAccV2 and PxAP, exact and fast."""

from wsolviz.evaluation.box_metrics import BoxEvaluator, BoxMetrics
from wsolviz.evaluation.mask_metrics import MaskEvaluator, MaskMetrics
from wsolviz.evaluation.metadata import Metadata, read_metadata

__all__ = [
    "BoxEvaluator",
    "BoxMetrics",
    "MaskEvaluator",
    "MaskMetrics",
    "Metadata",
    "read_metadata",
]
