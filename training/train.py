"""python -m training.train: train a network as a configuration says."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from training.config import TrainingConfig
from training.config_file import load_config
from training.data import Loader, open_photos
from training.initial import initial_backbone
from training.observer import Observer, forget
from training.publish.hub import push_to_hub
from training.publish.weights import write_weights
from training.run import TrainingRun
from training.validation import open_split
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
) -> None:
    """Train a network; interrupted, the same command goes on where it stopped.

    Under accelerate launch or torchrun the photos are shared out among the processes.
    """
    settings = load_config(config, overrides or [])
    folder = out / settings.name
    accelerator = make_accelerator(settings)
    if force and accelerator.is_main_process:
        forget(folder)
    accelerator.wait_for_everyone()
    weights = run(settings, folder, accelerator)
    if push_to is not None and accelerator.is_main_process:
        say(f"sent to {push_to_hub(weights.parent, push_to, private=private)}")
    accelerator.end_training()


def make_accelerator(settings: TrainingConfig) -> Accelerator:
    """Devices, precision and processes as the launcher and the configuration say."""
    # gloo carries what lies in ordinary memory: counts, and the measuring's messages.
    group = InitProcessGroupKwargs(
        backend="cpu:gloo,cuda:nccl", timeout=timedelta(seconds=LONGEST_WAIT.total_seconds())
    )
    return Accelerator(
        mixed_precision=MIXED_PRECISION[settings.precision], kwargs_handlers=[group]
    )


def run(settings: TrainingConfig, folder: Path, accelerator: Accelerator) -> Path:
    """One run from its configuration to its weights.

    Returns:
        The weights' file, which the leading process has written.
    """
    team = Team(
        accelerator.process_index, accelerator.num_processes, accelerator.local_process_index
    )
    photos = open_photos(settings.data)
    dataset = settings.data.validation and open_split(settings.data.validation)
    backbone, filled = initial_backbone(settings, photos.class_names, accelerator.device)
    if team.leads:
        say(f"{backbone.name}: {filled}")
    loader = Loader(photos, backbone, settings, rank=team.rank, size=team.size)
    observer = Observer(settings, backbone, dataset, folder, team, loader.steps_per_epoch)
    with observer:
        training = TrainingRun(settings, backbone, loader, folder, accelerator, observer)
        training.train()
    if team.leads:
        training.load_best()
        return write_weights(folder, settings, backbone)
    return folder


def main() -> None:
    """Run the command line."""
    run_command(cli, sys.argv[1:], "python -m training.train")


if __name__ == "__main__":
    main()
