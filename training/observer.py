"""Who watches a run: measures each epoch, writes it down, draws it, and tells how long it takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.config import TrainingConfig
from training.config_file import dump_config
from training.methods import METHODS
from training.record.epoch import EpochRecord, Loss, Validation
from training.record.files import (
    CONFIG,
    GALLERY,
    JOURNAL,
    TENSORBOARD,
    VALIDATION,
    epoch_folder,
    write_whole,
)
from training.record.gallery import draw_gallery, gallery_photos
from training.record.journal import Journal
from training.record.report import write_report
from training.record.scalars import Scalars
from training.tally import EpochTally
from training.target_maps import FILE as TARGET_MAPS
from training.validation import measure
from wsolviz.backends.base import Backbone
from wsolviz.commands.messages import messages, say
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.team import Team

BROKEN = "broken.txt"


class Observer:
    """Watches one run; every process has one, and the leading one writes.

    Args:
        config: of the run.
        backbone: that is trained.
        dataset: that it is measured on; None for none.
        folder: of the run.
        team: the processes at work.
        steps_per_epoch: how many.
    """

    def __init__(
        self,
        config: TrainingConfig,
        backbone: Backbone,
        dataset: Dataset | None,
        folder: Path,
        team: Team,
        steps_per_epoch: int,
    ) -> None:
        self.config, self.backbone, self.dataset = config, backbone, dataset
        self.folder, self.team, self.steps_per_epoch = folder, team, steps_per_epoch
        self.journal = Journal(folder / JOURNAL)
        self.photos = (
            gallery_photos(dataset, backbone, config.validation.photos)
            if dataset is not None and team.leads
            else []
        )
        self._scalars: Scalars | None = None
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}", markup=False),  # last, where a narrow terminal cuts
            console=messages,
            disable=not team.leads,
        )
        self._task = self._bar.add_task(config.name, total=config.epochs * steps_per_epoch, told="")

    def __enter__(self) -> Observer:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._scalars is not None:
            self._scalars.close()

    def begins(self, epoch: int, step: int, resumed: bool) -> None:
        """A run begins, or goes on after so many epochs and steps of the next one.

        Args:
            epoch: epochs done.
            step: steps done in the next one.
            resumed: False where no checkpoint was found, so that not even the network before any
                training counts as measured.
        """
        done = epoch * self.steps_per_epoch + step
        self._bar.update(self._task, completed=done)
        if not self.team.leads:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / CONFIG, dump_config(self.config))
        self.journal.resume(epoch if resumed else None)
        self._scalars = Scalars(self.folder / TENSORBOARD, purge_step=done or None)

    def stepped(self, epoch: int, step: int, losses: dict[str, Loss], lr: float) -> None:
        """A step was taken.

        Args:
            epoch: epochs done.
            step: steps done in the next one.
            losses: of the step, by name.
            lr: of the network in it.
        """
        done = epoch * self.steps_per_epoch + step
        told = " ".join(f"{name} {loss.value:.3f}" for name, loss in losses.items())
        self._bar.update(self._task, completed=done, told=told)
        if self._scalars is not None:
            self._scalars.step(done - 1, losses, lr)

    def finished(self, epoch: int, tally: EpochTally, lr: float) -> float | None:
        """An epoch is done, or with `epoch` 0 none yet; the network is in eval mode.

        Args:
            epoch: epochs done.
            tally: of the last one.
            lr: of the network in its last step.

        Returns:
            The score that epochs are compared by, in per cent; None where nothing was measured,
            and in other processes than the leading one.
        """
        validation = self._validate(epoch)
        if not self.team.leads:
            return None
        record = self._record(epoch, tally, lr, validation)
        self.journal.append(record)
        if self._scalars is not None:
            self._scalars.epoch(record)
        if validation is not None and self.photos:
            draw_gallery(self.folder / GALLERY, epoch, self.backbone, self.photos, validation)
        self._note_broken(tally)
        write_report(self.folder)
        if validation is None:
            return None
        say(f"epoch {epoch}: {validation.leading} {validation.score_name} {validation.score}")
        return validation.score.value

    def _validate(self, epoch: int) -> Validation | None:
        last = epoch == self.config.epochs
        if self.dataset is None or (epoch % self.config.validation.every and not last):
            return None
        folder = epoch_folder(self.folder / VALIDATION, epoch)
        figures = measure(self.backbone, self.dataset, self.config, folder, self.team)
        return Validation.of(figures) if self.team.leads else None

    def _record(
        self, epoch: int, tally: EpochTally, lr: float, validation: Validation | None
    ) -> EpochRecord:
        if epoch == 0:
            return EpochRecord(epochs_done=0, steps=0, validation=validation)
        augmentation, method = self.config.augmentation, METHODS[self.config.method.name]
        mixed = augmentation.mixup or augmentation.cutmix or method.mixes_images
        return EpochRecord(
            epochs_done=epoch,
            steps=epoch * self.steps_per_epoch,
            losses=tally.losses,
            lr=lr,
            top1=None if mixed else tally.top1,
            seconds=tally.seconds,
            images_per_second=tally.images / max(tally.seconds, 1e-9),
            waiting=min(tally.waited / max(tally.seconds, 1e-9), 1.0),
            broken_images=len(tally.broken),
            peak_memory=_peak_memory(),
            validation=validation,
        )

    def _note_broken(self, tally: EpochTally) -> None:
        """Name the photos that could not be read, all of the run."""
        if tally.broken:
            lines = [f"{image}\t{reason}\n" for image, reason in sorted(tally.broken.items())]
            write_whole(self.folder / BROKEN, "".join(lines))
            say(f"{len(tally.broken)} photos could not be read; {BROKEN} names them.", style="red")


def forget(folder: Path) -> None:
    """Take away what an earlier run left in a folder, and nothing else that lies there."""
    for name in (GALLERY, TENSORBOARD, VALIDATION, "checkpoints"):
        shutil.rmtree(folder / name, ignore_errors=True)
    named = (folder / name for name in (JOURNAL, BROKEN, TARGET_MAPS))
    for path in (*named, *folder.glob("nonfinite-*.pt")):
        path.unlink(missing_ok=True)


def _peak_memory() -> int | None:
    """Bytes that tensors took at most on the GPU; None without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
