"""What an epoch adds up to; exact sums, so that a resumed epoch gives the same means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from training.methods import Terms
from training.record.epoch import Loss


@dataclass
class EpochTally:
    """Sums over the steps of one epoch, of all processes together.

    Attributes:
        steps: how many.
        sums: the sum of each loss by name, and how many steps had it.
        weights: with which each loss counted in the last step.
        correct: images whose label the network's best class is.
        images: how many there were.
        seconds: that the steps took.
        waited: seconds of those that this process waited for data.
        broken: image ids of photos that could not be read, and why.
    """

    steps: int = 0
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    broken: dict[str, str] = field(default_factory=dict)

    def add(self, losses: Mapping[str, Loss]) -> None:
        """Count one step's losses."""
        self.steps += 1
        for name, loss in losses.items():
            total, steps = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + loss.value, steps + 1)
            self.weights[name] = loss.weight

    @property
    def losses(self) -> dict[str, Loss]:
        """Each loss: its mean over the steps that had it, and its last weight."""
        return {
            name: Loss(value=total / steps, weight=self.weights[name])
            for name, (total, steps) in self.sums.items()
        }

    @property
    def top1(self) -> float:
        """Share of the training images that were classified rightly, in per cent."""
        return 100 * self.correct / max(self.images, 1)

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)


def values_of(terms: Terms) -> torch.Tensor:
    """The values of the losses in one float32 vector, in their order."""
    return torch.stack([term.value.detach().float() for term in terms.values()])
