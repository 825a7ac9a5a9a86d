"""The loop: epochs of steps, each epoch measured and written down, and going on after a stop."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator

from training.checkpoint import load_state, provenance, refuse_others, save_state
from training.config import TrainingConfig
from training.config_file import dump_config
from training.data import Loaded, Loader
from training.finite import REMEDIES, NonFiniteLossError, check_weights, keep_batch
from training.methods import Moment, total
from training.models import TrainableNetwork
from training.observer import Observer
from training.optimization import (
    averaged,
    freeze,
    lr_factor,
    make_average,
    make_optimizer,
    set_training,
)
from training.processes import refuse_unlike, share_broken, share_statistics
from training.recompute import recomputing
from training.record.epoch import Loss
from training.step import TrainingStep
from training.tally import EpochTally, values_of
from wsolviz.backends.base import Backbone
from wsolviz.memory import keeping_freed_memory

LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"


@dataclass
class Position:
    """How far a run has come: `epoch` epochs are done, and `step` steps of the next one."""

    epoch: int = 0
    step: int = 0


class TrainingRun:
    """One run, in one folder; `train` goes on where an earlier process stopped.

    Args:
        config: everything that decides the numbers.
        backbone: nobody else's; it is trained in place.
        loader: of the training photos.
        folder: of the run.
        accelerator: devices, precision and processes.
        observer: told of each step and each epoch; measures and writes.

    Raises:
        ValueError: a folder that holds a run with another configuration, or a configuration that
            does not fit the network.
    """

    def __init__(
        self,
        config: TrainingConfig,
        backbone: Backbone,
        loader: Loader,
        folder: Path,
        accelerator: Accelerator,
        observer: Observer,
    ) -> None:
        if config.precision == "float16" and accelerator.device.type == "cpu":
            raise ValueError("precision: float16 needs a GPU; take bfloat16 or float32 here.")
        self.config, self.backbone, self.loader = config, backbone, loader
        self.folder, self.accelerator, self.observer = folder, accelerator, observer
        self.network = TrainableNetwork(backbone)
        freeze(backbone.module, config.freeze)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.layout = layout
        backbone.module.to(memory_format=layout)
        # For a method's own layers: what has run in this process before may have drawn numbers.
        seed_step(config.seed, epoch=-1, step=0, rank=0)
        self.step = TrainingStep(self.network, config).to(accelerator.device)
        self.average = make_average(backbone.module, config.ema)
        optimizer = make_optimizer(self.network, self.step.method, config.optimizer)
        self.heights = [group["lr"] for group in optimizer.param_groups]
        self.wrapped, self.optimizer = accelerator.prepare(self.step, optimizer)
        self.position, self.tally, self.best = Position(), EpochTally(), -math.inf
        self.lr = 0.0  # the network's in the last step, not its head's
        self.resumed = self._resume()

    @keeping_freed_memory()
    def train(self) -> None:
        """Train to the last epoch.

        Raises:
            NonFiniteLossError: a loss was infinite or NaN; the batch is kept.
            ValueError: a step does not fit into memory.
            OSError: a file cannot be written; says where the run goes on.
        """
        try:
            self._train()
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"The GPU's memory is too small for a step: {error} A higher accumulate or "
                "gradient_checkpointing: true keep the losses as they are and need less, as does "
                "precision: bfloat16; or lower batch_size or data.image_size."
            ) from error
        except OSError as error:
            raise OSError(
                f"{str(error).rstrip('.')}. The last checkpoint in {self.folder} is kept; once "
                "this is mended, such as by making room on a full disk, the same command goes on "
                "from it."
            ) from error

    def _train(self) -> None:
        self.observer.begins(self.position.epoch, self.position.step, self.resumed)
        if not self.resumed:
            self._measure()
        while self.position.epoch < self.config.epochs:
            self._epoch()
            self._measure()

    def _epoch(self) -> None:
        """The rest of the epoch that the position stands in."""
        epoch, first = self.position.epoch, self.position.step
        set_training(self.step, self.config.freeze)
        batches = iter(self.loader.epoch(epoch, first))
        with recomputing(self.network, self.config.gradient_checkpointing):
            for step in range(first, self.loader.steps):
                started = time.perf_counter()
                loaded = next(batches)
                self.tally.waited += time.perf_counter() - started
                losses = self._step(loaded, step)
                self.tally.seconds += time.perf_counter() - started
                self.position.step = step + 1
                self.observer.stepped(epoch, step + 1, losses, self.lr)
                every = self.config.checkpoint_steps
                if every and (step + 1) % every == 0 and step + 1 < self.loader.steps:
                    check_weights(self.backbone.module, epoch + 1)
                    self._save()
        self.position = Position(epoch + 1)

    def _step(self, loaded: Loaded, step: int) -> dict[str, Loss]:
        """Forward, backward, one change of the weights; gives the losses of all processes."""
        config = self.config
        moment = Moment(self.position.epoch + step / self.loader.steps, config.epochs)
        factor = lr_factor(moment.epoch, config.epochs, config.schedule)
        self.lr = factor * config.optimizer.lr
        for group, height in zip(self.optimizer.param_groups, self.heights, strict=True):
            group["lr"] = factor * height
        seed_step(config.seed, self.position.epoch, step, self.accelerator.process_index)
        batch = loaded.batch.to(self.accelerator.device, self.layout)
        values: list[torch.Tensor] = []
        for number, part in enumerate(batch.parts(config.accumulate), start=1):
            last = number == config.accumulate
            synchronized = nullcontext() if last else self.accelerator.no_sync(self.wrapped)
            with synchronized:
                logits, terms = self.wrapped(part, moment)
                self.accelerator.backward(total(terms) / config.accumulate)
            right = (logits.argmax(dim=1) == part.target).sum().float()
            values.append(torch.cat([values_of(terms), right[None]]))
        counted = self.accelerator.reduce(torch.stack(values).mean(dim=0), "mean")
        if not counted.isfinite().all():  # all processes see the same sums
            self._stop(counted, list(terms), loaded, step)
        if config.optimizer.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.step.parameters(), config.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        share_statistics(self.backbone.module, self.accelerator)
        if self.average is not None:
            self.average.update_parameters(self.backbone.module)
        *means, right_per_part = counted.tolist()
        losses = {
            name: Loss(value=value, weight=term.weight)
            for (name, term), value in zip(terms.items(), means, strict=True)
        }
        self.tally.add(losses)
        self.tally.images += config.batch_size
        parts = config.accumulate * self.accelerator.num_processes
        self.tally.correct += round(right_per_part * parts)
        self.tally.broken.update(loaded.broken)
        return losses

    def _stop(self, counted: torch.Tensor, names: list[str], loaded: Loaded, step: int) -> NoReturn:
        """Keep the batch whose losses are no numbers, and stop."""
        told = ", ".join(f"{n} {v:g}" for n, v in zip(names, counted.tolist(), strict=False))
        rank, epoch = self.accelerator.process_index, self.position.epoch
        path = self.folder / f"nonfinite-{epoch}-{step}-{rank}.pt"
        keep_batch(path, loaded, self.backbone.module, told)
        raise NonFiniteLossError(
            f"Epoch {epoch + 1}, step {step + 1}: {told}. The batch and the weights are in {path}. "
            f"{REMEDIES}"
        )

    def _measure(self) -> None:
        """Measure, write down and keep the state after an epoch, or before the first."""
        check_weights(self.backbone.module, self.position.epoch)
        share_broken(self.tally.broken, self.accelerator)
        self.backbone.module.eval()
        with averaged(self.backbone.module, self.average):
            score = self.observer.finished(self.position.epoch, self.tally, self.lr)
            # The network before any training is no result of the training, however good it is.
            asked = self.config.validation.result == "best" and self.position.epoch
            if asked and score is not None and score > self.best:
                self.best = score
                module = self.backbone.module.state_dict()
                best = {"module": module, "epochs_done": self.position.epoch}
                save_state(best, self.folder / BEST)
        self.tally = EpochTally(broken=self.tally.broken)
        self._save()

    def load_result(self) -> int:
        """Put the weights of the best epoch into the network, or of the last, as it was asked.

        Where no epoch was measured, the last counts as the best.

        For the end: the run cannot go on from them.

        Returns:
            How many epochs they have behind them.
        """
        best = load_state(self.folder / BEST)
        average = None if self.average is None else self.average.module.state_dict()
        state = best["module"] if best is not None else average
        if state is not None:
            self.backbone.module.load_state_dict(state)
        self.backbone.module.eval()
        return self.position.epoch if best is None else int(best["epochs_done"])

    def _save(self) -> None:
        share_broken(self.tally.broken, self.accelerator)
        if self.accelerator.is_main_process:
            save_state(self._state(), self.folder / LAST)
        self.accelerator.wait_for_everyone()

    def _state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "config": dump_config(self.config),
            "seed": self.config.seed,
            **provenance(),
            "epoch": self.position.epoch,
            "step": self.position.step,
            "tally": self.tally.state(),
            "best": self.best,
            "module": self.backbone.module.state_dict(),
            "method": self.step.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def _resume(self) -> bool:
        """Take over the state that an earlier process left; whether one did.

        Raises:
            ValueError: the folder holds a run with another configuration, or is not the same for
                all processes.
        """
        state = load_state(self.folder / LAST)
        found = None if state is None else (state["epoch"], state["step"])
        refuse_unlike(found, self.folder, self.accelerator)
        if state is None:
            return False
        refuse_others(state["config"], dump_config(self.config), self.folder)
        self.backbone.module.load_state_dict(state["module"])
        self.step.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.position = Position(state["epoch"], state["step"])
        self.tally, self.best = EpochTally(**state["tally"]), state["best"]
        return True


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed torch for one step of one process, so that a resumed run draws the same numbers."""
    text = f"{seed}/{epoch}/{step}/{rank}".encode()
    torch.manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True))
