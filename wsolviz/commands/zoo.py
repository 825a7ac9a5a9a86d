"""python -m wsolviz zoo: the published checkpoints, how to get them, and whether they are right."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from wsolviz.backends.download import fetch
from wsolviz.backends.zoo import ZOO, ZooEntry
from wsolviz.commands.checkpoints import check, convert
from wsolviz.commands.messages import messages, results, say

WIDE = 180  # columns where there is no terminal to say

zoo = typer.Typer(no_args_is_help=True, help="The published checkpoints: list, get, check.")
zoo.command()(check)
zoo.command()(convert)

Name = Annotated[str, typer.Argument(help="A name of zoo list.", show_default=False)]


@zoo.command("list")
def list_entries(
    here: Annotated[bool, typer.Option("--here", help="Only those whose file is here.")] = False,
) -> None:
    """List every checkpoint of the zoo."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("name", "here", "backbone", "classes", "licence", "published, per cent"):
        table.add_column(column, overflow="fold")
    for entry in ZOO.values():
        if entry.is_here or not here:
            table.add_row(
                entry.name,
                "yes" if entry.is_here else "no",
                entry.backbone,
                f"{entry.num_classes} of {entry.classes}",
                entry.licence or "none stated",
                published(entry),
            )
    # In a file or a pipe every checkpoint has one line, which grep can find.
    Console(width=None if results.is_terminal else WIDE).print(table)


@zoo.command()
def info(name: Name) -> None:
    """Tell everything about a checkpoint, and how to measure what was published."""
    entry = ZOO[name]
    for label, value in _facts(entry).items():
        if value:
            results.print(f"{label:<14}{value}", soft_wrap=True, highlight=False, markup=False)
    for line in (*([] if entry.is_here else [entry.how_to_get]), *_measuring(entry)):
        results.print(line, soft_wrap=True, highlight=False, markup=False)


@zoo.command()
def get(
    name: Name,
    force: Annotated[bool, typer.Option(help="Fetch it anew if it is here already.")] = False,
) -> None:
    """Fetch a checkpoint where it has an address, or say where it can be downloaded by hand."""
    entry = ZOO[name]
    if entry.is_here and not force:
        say(f"{name} is here already: {entry.path}")
        return
    if entry.url is None:
        say(entry.how_to_get)
        raise typer.Exit(1)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages) as bar:
        task = bar.add_task(entry.file, total=None)
        found = fetch(
            entry.url,
            entry.path,
            entry.sha256,
            lambda done, size: bar.update(task, completed=done, total=size),
        )
    checked = "as published" if entry.sha256 else "for which no published one is known"
    say(f"{name} is in {entry.path}; its SHA-256 is {found}, {checked}.")


def published(entry: ZooEntry) -> str:
    """The published figures in one line.

    >>> published(ZOO["replknet_31b.cub"])
    'cam: MaxBoxAcc 90.99, V2 76.4; pc1_paper: MaxBoxAcc 93.6, V2 80.4'
    """
    top1 = [] if entry.top1 is None else [f"top-1 {entry.top1}"]
    return "; ".join(
        top1
        + [
            f"{figures.method}: "
            + ", ".join(
                f"{label} {value}"
                for label, value in (
                    ("MaxBoxAcc", figures.max_box_acc),
                    ("V2", figures.max_box_acc_v2),
                )
                if value is not None
            )
            for figures in entry.published
        ]
    )


def _facts(entry: ZooEntry) -> dict[str, str]:
    changes = entry.input.model_dump(exclude_none=True)
    return {
        "name": entry.name,
        "what": entry.help,
        "backbone": entry.backbone,
        "classes": f"{entry.num_classes} of {entry.classes}",
        "input": ", ".join(f"{k} {v}" for k, v in changes.items()) or "its backbone's own",
        "output stride": str(entry.output_stride or ""),
        "page": entry.page,
        "address": entry.url or entry.link or "",
        "licence": entry.licence or "none stated",
        "sha256": entry.sha256 or "none published",
        "file": f"{entry.path}, {'here' if entry.is_here else 'not here'}",
        "published": published(entry),
        "measured in": f"the space {entry.space}" if entry.published else "",
    }


def _measuring(entry: ZooEntry) -> list[str]:
    """The command that measures what was published, for each data set."""
    lines = []
    for dataset in dict.fromkeys(figures.dataset for figures in entry.published):
        methods = [f.method for f in entry.published if f.dataset == dataset]
        command = [
            *("python", "-m", "wsolviz", "evaluate", "--data", dataset, "--split", "test"),
            *("--backbone", entry.name, "--method", *methods, "--space", entry.space),
            *("--out", f"out/{entry.name}"),
        ]
        lines.append(f"To measure what was published, with {dataset} in a folder of that name:")
        lines.append(shlex.join(command))
    return lines
