"""What is kept of an epoch: losses, times, and what the network was measured to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from training.section import Count, Fraction, Index, NonNegative
from wsolviz.evaluation.figures import MAX_BOX_ACC, MAX_BOX_ACC_V2, POLICY_SWEPT, PXAP, Figures
from wsolviz.evaluation.tally import V2_CRITERIA


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Loss(_Kept):
    """One part of the loss: its mean, and the weight that it counts with."""

    value: float
    weight: float = 1.0


class Figure(_Kept):
    """A figure in per cent, its 95 % bootstrap interval, and the threshold that it was best at."""

    value: float
    interval: tuple[float, float]
    cam_threshold: float | None = None

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1f} [{low:.1f}, {high:.1f}]"


class Validation(_Kept):
    """Figures of the network on photos that it does not learn from.

    Attributes:
        data: the data set's name and the split's.
        num_images: in the split.
        skipped: of them, those that could not be read.
        methods: figures by method and name, thresholds swept on this very split; the first method
            is the one that epochs are compared by, the last the baseline that looks at no photo.
        classification: accuracy by name.
    """

    data: str
    num_images: Count
    skipped: Index = 0
    methods: dict[str, dict[str, Figure]]
    classification: dict[str, Figure] = {}

    @classmethod
    def of(cls, results: Figures) -> Validation:
        """The figures out of what `evaluate_run` gave."""
        methods = {
            name: {
                **method.get(POLICY_SWEPT, {}),
                **({PXAP: method[PXAP]} if PXAP in method else {}),
            }
            for name, method in results["methods"].items()
        }
        return cls(
            data=results["settings"]["data"],
            num_images=results["num_images"],
            skipped=len(results["skipped"]),
            methods=methods,
            classification=results["classification"],
        )

    @property
    def leading(self) -> str:
        """The method that epochs are compared by."""
        return next(iter(self.methods))

    @property
    def score_name(self) -> str:
        """What epochs are compared by: MaxBoxAccV2, or PxAP where there are only masks."""
        return MAX_BOX_ACC_V2 if MAX_BOX_ACC_V2 in self.methods[self.leading] else PXAP

    @property
    def score(self) -> Figure:
        """The leading method's figure of that name."""
        return self.methods[self.leading][self.score_name]

    @property
    def iou_figures(self) -> dict[str, Figure]:
        """The leading method's figures that MaxBoxAccV2 is the mean of, by name."""
        figures = self.methods[self.leading]
        return {c.name: figures[c.name] for c in V2_CRITERIA if c.name in figures}

    def cam_threshold(self, method: str) -> float | None:
        """MaxBoxAcc's threshold of a method, or of the leading one where that was not measured.

        None where no boxes were measured.
        """
        for name in (method, self.leading):
            figure = self.methods.get(name, {}).get(MAX_BOX_ACC)
            if figure is not None:
                return figure.cam_threshold
        return None


class EpochRecord(_Kept):
    """One epoch.

    Attributes:
        epochs_done: how many were trained; 0 is the network before any training.
        steps: of the optimizer, since the run began.
        losses: by name, each the mean over the epoch, without its weight.
        lr: of the network in the epoch's last step; None before any training.
        top1: per cent of the training photos, as they were augmented, whose class was the
            network's best at the time; None where images were mixed, and before any training.
        seconds: of training, without measuring.
        images_per_second: of training, all processes together.
        waiting: share of `seconds` that steps waited for data.
        broken_images: that could not be read, since the run began.
        peak_memory: bytes that tensors took at most on one device; None where nobody knows.
        validation: None where the epoch was not measured.
    """

    epochs_done: Index
    steps: Index
    losses: dict[str, Loss] = {}
    lr: NonNegative | None = None
    top1: float | None = None
    seconds: NonNegative = 0.0
    images_per_second: NonNegative = 0.0
    waiting: Fraction = 0.0
    broken_images: Index = 0
    peak_memory: Count | None = None
    validation: Validation | None = None


def total(losses: Mapping[str, Loss]) -> float:
    """Σ weight · value."""
    return sum(loss.weight * loss.value for loss in losses.values())


def best_epoch(records: Sequence[EpochRecord]) -> EpochRecord | None:
    """The trained epoch of the highest score, the earliest of equal ones.

    None where none was measured. The network before any training is no result of the training,
    however good it is.
    """
    measured = [(r, r.validation) for r in records if r.epochs_done and r.validation]
    return max(measured, key=lambda pair: pair[1].score.value)[0] if measured else None
