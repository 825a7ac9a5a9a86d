"""python -m training.train: train a network as a configuration says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from training.checkpoint import provenance
from training.config import TrainingConfig
from training.config_file import load_config
from training.data import (
    Augmentation,
    PhotoSet,
    Share,
    TrainingSet,
    make_loader,
    open_sources,
)
from training.initial import Classes, initial_backbone
from training.methods import METHODS
from training.observer import Observer, forget
from training.publish.card import write_card
from training.publish.command import command_of
from training.publish.hub import check_repository, push_to_hub
from training.publish.weights import Origin, hardware, write_weights
from training.run import TrainingRun
from wsolviz.backends.base import Backbone
from wsolviz.cli import run_command
from wsolviz.commands.messages import say
from wsolviz.evaluation.team import LONGEST_WAIT, Team

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def train(
    config: Annotated[Path, typer.Option(help="A YAML file, see training/configs.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key.path=value, in place of the file's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Runs get a folder of their name in here.")] = Path(
        "out/training"
    ),
    force: Annotated[bool, typer.Option(help="Begin anew, over a run of that name.")] = False,
    push_to: Annotated[
        str | None, typer.Option("--push-to-hub", help="Repository to send the weights to.")
    ] = None,
    private: Annotated[bool, typer.Option(help="Whether a new repository is private.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Write the weights in float16.")] = False,
) -> None:
    """Train a network; interrupted, the same command goes on where it stopped.

    Under accelerate launch or torchrun the photos are shared out among the processes.
    """
    settings = load_config(config, overrides or [])
    folder = out / settings.name
    accelerator = make_accelerator(settings)
    if push_to is not None and accelerator.is_main_process:
        check_repository(push_to)
    if force and accelerator.is_main_process:
        forget(folder)
    accelerator.wait_for_everyone()
    command = command_of(config, overrides or [], half=half)
    weights = run(settings, folder, accelerator, half=half, command=command)
    if push_to is not None and accelerator.is_main_process:
        say(f"sent to {push_to_hub(weights.parent, push_to, private=private)}")
    accelerator.end_training()


def make_accelerator(settings: TrainingConfig) -> Accelerator:
    """Devices, precision and processes as the launcher and the configuration say."""
    handlers, several = [], int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpu = several and not torch.cuda.is_available()
    if several:
        # gloo carries what lies in ordinary memory: counts, and the measuring's messages.
        backend = "gloo" if on_cpu else "cpu:gloo,cuda:nccl"
        handlers = [InitProcessGroupKwargs(backend=backend, timeout=LONGEST_WAIT)]
    return Accelerator(
        # Several processes without a GPU share their gradients only if they are told so.
        cpu=on_cpu,
        mixed_precision=MIXED_PRECISION[settings.precision],
        kwargs_handlers=handlers,
    )


def run(
    settings: TrainingConfig,
    folder: Path,
    accelerator: Accelerator,
    *,
    half: bool = False,
    command: str = "",
) -> Path:
    """One run from its configuration to its weights.

    Args:
        settings: the configuration.
        folder: of the run.
        accelerator: devices, precision and processes.
        half: whether the weights are written in float16.
        command: that starts such a run, for the model card.

    Returns:
        The weights' file, which the leading process has written.
    """
    team = Team(
        accelerator.process_index, accelerator.num_processes, accelerator.local_process_index
    )
    sources = open_sources(settings.data)
    if settings.backbone.classes == "own":
        backbone, filled = initial_backbone(settings, None, accelerator.device)
        photos = sources.for_network(backbone.num_classes, backbone.class_names)
    else:
        photos = sources.with_own_classes()
        classes = Classes(photos.num_classes, photos.class_names)
        backbone, filled = initial_backbone(settings, classes, accelerator.device)
    if team.leads:
        say(f"{backbone.name}: {filled}")
    loader = make_loader(
        photos,
        _augmentation(settings, photos, backbone, folder, accelerator),
        batch_size=settings.batch_size,
        seed=settings.seed,
        workers=settings.data.workers,
        accumulate=settings.accumulate,
        share=Share(team.rank, team.size),
        device=accelerator.device,
    )
    observer = Observer(settings, backbone, sources.validation, folder, team, loader.steps)
    with observer:
        training = TrainingRun(settings, backbone, loader, folder, accelerator, observer)
        training.train()
    if team.leads:
        record = observer.journal.record(training.load_result())
        origin = Origin(command, hardware(accelerator.device, team.size), **provenance())
        weights = write_weights(folder, settings, backbone, record, origin, half=half)
        write_card(folder, settings.name)
        say(f"{weights}, {weights.with_suffix('.json').name} and README.md are written")
        return weights
    return folder


def _augmentation(
    settings: TrainingConfig,
    photos: TrainingSet,
    backbone: Backbone,
    folder: Path,
    accelerator: Accelerator,
) -> Augmentation:
    """What happens to photos, and to the maps that the method learns from, if it does."""
    method = METHODS[settings.method.name]
    maps, side = None, None
    if isinstance(photos, PhotoSet):
        with accelerator.main_process_first():  # the others find what it has kept
            maps = method.target_maps(settings.method, photos, accelerator.device, folder)
    if maps is not None:
        images = torch.zeros(1, 3, *backbone.preprocessing.size)
        side = backbone.extract(images).feature_map.shape[2]
    return Augmentation(
        settings.augmentation, backbone.preprocessing, photos.num_classes, maps, side
    )


def main() -> None:
    """Run the command line."""
    run_command(cli, sys.argv[1:], "python -m training.train")


if __name__ == "__main__":
    main()
