"""python -m wsolviz erf: effective receptive fields of several backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wsolviz.analysis.erf import THRESHOLDS
from wsolviz.commands.folders import refuse_file, refuse_to_overwrite
from wsolviz.commands.messages import messages, say
from wsolviz.commands.options import Backbones, ForwardPrecision, OutputStride
from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.evaluate import RESULTS
from wsolviz.fields.export import CSV, JSON, REPORT, write_fields
from wsolviz.fields.figures import MapLook, Scale
from wsolviz.fields.localization import (
    Localization,
    correlations,
    find_results,
    pair,
    read_results,
)
from wsolviz.fields.photos import EXAMPLES, EXAMPLES_NAME, choose_photos, tell_fewer
from wsolviz.fields.request import SIZE_WARNING, FieldRequest, Fields, WeightsKind
from wsolviz.fields.run import measure_fields
from wsolviz.fields.step import Step
from wsolviz.fields.table import table

RandomInit = Literal["no", "too", "only"]
WEIGHTS: dict[RandomInit, tuple[WeightsKind, ...]] = {
    "no": ("trained",),
    "too": ("trained", "random"),
    "only": ("random",),
}
WIDE = 150  # columns of a terminal in which the whole table has room
SHOWN = 5  # broken photos that are named


def erf(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    backbone: Backbones = DEFAULTS.backbones,  # type: ignore[assignment]
    size: Annotated[int, typer.Option(help="Side of the network's input.")] = DEFAULTS.erf_size,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos; default: the project's examples.")
    ] = None,
    num_images: Annotated[
        int, typer.Option(help="How many of them, the same ones in every run.")
    ] = DEFAULTS.erf_images,
    random_init: Annotated[
        RandomInit, typer.Option(help="Random weights: not, beside the trained ones, or alone.")
    ] = "no",
    seed: Annotated[int, typer.Option(help="Of random weights and of the choice of photos.")] = 0,
    position: Annotated[
        str | None,
        typer.Option(metavar="ROW,COL", help="Cell of the feature map; default: its middle."),
    ] = None,
    class_choice: Annotated[
        str | None,
        typer.Option("--class", help="Ask about the CAM of a class, by index or name."),
    ] = None,
    scale: Annotated[Scale, typer.Option(help="Of the heat maps' colours.")] = "log",
    own_scale: Annotated[
        bool, typer.Option("--own-scale", help="Colour each map up to its own maximum.")
    ] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Folders with results of evaluate, to set the fields against."),
    ] = None,
    output_stride: OutputStride = None,
    precision: ForwardPrecision = DEFAULTS.precision,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos a pass.")] = 1,
    force: Annotated[bool, typer.Option(help="Overwrite results.")] = False,
) -> None:
    """Measure effective receptive fields: maps, areas, curves and a report that works offline.

    Interrupted, the same command goes on where it stopped; what was measured once is not measured
    again.
    """
    refuse_file(out)
    request = FieldRequest(
        backbones=tuple(backbone),
        photos=choose_photos(images or EXAMPLES, num_images, seed),
        size=size,
        weights=WEIGHTS[random_init],
        position=None if position is None else _parse_position(position),
        class_choice=class_choice,
        output_stride=output_stride,
        precision=precision,
        batch_size=batch_size,
        seed=seed,
    )
    localizations = _read_localizations(results or [])
    refuse_to_overwrite([out], force)
    if fewer := tell_fewer(num_images, len(request.photos), str(images or EXAMPLES_NAME)):
        say(fewer)
    fields = _with_progress(request)
    for row in fields.missing:
        say(f"wsolviz: {row.label}: {row.failure}", style="red")
    if not fields.rows:
        raise typer.Exit(1)
    write_fields(fields, MapLook(scale, own_scale), out, localizations)
    _show(fields)
    _tell_correlations(fields, localizations)
    say(f"{out / REPORT}, {CSV}, {JSON}, and a .npz and a .png a row are in {out}")
    measured = {row.backbone for row in fields.rows}
    raise typer.Exit(0 if measured.issuperset(request.backbones) else 1)


def _parse_position(text: str) -> tuple[int, int]:
    row, comma, column = text.partition(",")
    if not (comma and row.strip().isdecimal() and column.strip().isdecimal()):
        raise ValueError(
            f"--position is {text!r}; give row and column of the feature map, counted from 0, with "
            "a comma: --position 3,5"
        )
    return int(row), int(column)


def _with_progress(request: FieldRequest) -> Fields:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[skipped]}", style="red"),
    )
    count = len(request.photos)
    with Progress(*columns, console=messages) as bar:
        task = bar.add_task("", total=count * len(request.networks), speed="", skipped="")

        def tell(step: Step) -> None:
            bar.update(
                task,
                description=f"{step.network}: loading" if step.loading else step.network,
                completed=step.row * count + step.done,
                speed=step.pace,
                skipped=f"{step.num_broken} skipped" if step.num_broken else "",
            )

        return measure_fields(request, tell)


def _show(fields: Fields) -> None:
    columns, rows = table(fields.rows, "full" if messages.width >= WIDE else "brief")
    shown = Table(title=fields.title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        shown.add_column(column, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    for texts in rows:
        shown.add_row(*texts)
    messages.print(shown)
    say(SIZE_WARNING)
    broken = dict.fromkeys((b.name, b.reason) for row in fields.rows for b in row.broken)
    for name, reason in list(broken)[:SHOWN]:
        say(f"skipped {name}: {reason}", style="red")
    if len(broken) > SHOWN:
        say(f"… {len(broken)} photos could not be read in all; {JSON} names them.")


def _read_localizations(folders: list[Path]) -> list[Localization]:
    found: list[Localization] = []
    for folder in folders:
        files = find_results(folder)
        if not files:
            raise FileNotFoundError(
                f"There are no results of wsolviz evaluate in {folder}: no {RESULTS}."
            )
        for path in files:
            found += read_results(path)
    return found


def _tell_correlations(fields: Fields, localizations: list[Localization]) -> None:
    for data in dict.fromkeys(told.data for told in localizations):
        of_data = [told for told in localizations if told.data == data]
        for threshold in THRESHOLDS:
            points = pair(fields.rows, of_data, threshold)
            if not points:
                say(f"{data}: no results of the trained networks above; nothing to set against.")
                break
            for found in correlations(points):
                say(f"{data} against area {threshold:.0%}: {found.text}")
