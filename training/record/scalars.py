"""What TensorBoard shows of a run: every step's losses and rate, every epoch's figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from training.record.epoch import EpochRecord, Loss, total


class Scalars:
    """A run's scalars; only the leading process writes.

    Args:
        folder: of TensorBoard's files.
        purge_step: where a run that was cut off goes on; what was written of this step and later
            ones is taken back. None for a new run.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def step(self, step: int, losses: Mapping[str, Loss], lr: float) -> None:
        """One step of the optimizer.

        Args:
            step: how many were taken before.
            losses: by name.
            lr: of the network.
        """
        for name, loss in losses.items():
            self._add(f"loss/{name}", loss.value, step)
        self._add("loss/total", total(losses), step)
        self._add("lr", lr, step)

    def epoch(self, record: EpochRecord) -> None:
        """One epoch, under the step that it ended with."""
        step = record.steps
        for name in ("top1", "images_per_second", "waiting"):
            value = getattr(record, name)
            if record.epochs_done and value is not None:
                self._add(f"train/{name}", value, step)
        if record.validation is not None:
            for method, figures in record.validation.methods.items():
                for name, figure in figures.items():
                    self._add(f"validation/{method}/{name}", figure.value, step)
            for name, figure in record.validation.classification.items():
                self._add(f"validation/{name}", figure.value, step)
        self._writer.flush()

    def close(self) -> None:
        """Write everything and close."""
        self._writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)
