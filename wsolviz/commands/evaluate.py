"""python -m wsolviz evaluate: the WSOL benchmark's figures for a data set."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wsolviz.commands.folders import refuse_file
from wsolviz.commands.messages import messages, say
from wsolviz.commands.options import (
    Backbones,
    FeatureSpace,
    Flip,
    ForwardPrecision,
    ImageSize,
    Methods,
    OutputStride,
    Scales,
)
from wsolviz.compare import CompareOptions
from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.box_metrics import MAP_SIZE
from wsolviz.evaluation.dataset import Dataset, open_dataset
from wsolviz.evaluation.evaluate import BATCH_SIZE, Run
from wsolviz.evaluation.figures import Figures, facts, summary
from wsolviz.evaluation.report import write_report
from wsolviz.evaluation.results import FixedThresholds, evaluate_run
from wsolviz.evaluation.scoremap_files import ScoremapSource
from wsolviz.evaluation.sources import ClassFrom, NetworkSource, Source
from wsolviz.evaluation.team import Team, team
from wsolviz.export import plain_name

OF_NETWORKS = (
    *("backbone", "method", "class_from", "space", "image_size", "scales", "flip"),
    *("output_stride", "precision"),
)  # parameters that score maps out of files take no notice of
WIDE = 100  # columns of a terminal in which intervals have room


@dataclass(frozen=True)
class _Plan:
    """What is to be measured, before a data set or a network is opened."""

    methods: tuple[str, ...]
    class_from: ClassFrom
    options: CompareOptions
    map_size: int

    def sources(
        self, datasets: list[Dataset], backbones: list[str], scoremaps: Path | None, members: Team
    ) -> dict[str, list[Source]]:
        """For each network, or for the one folder of score maps, a source for each data set."""
        if scoremaps:
            files = [ScoremapSource(d, scoremaps, map_size=self.map_size) for d in datasets]
            return {scoremaps.resolve().name: [*files]}
        return {name: [self._network(d, name, members) for d in datasets] for name in backbones}

    def _network(self, dataset: Dataset, backbone: str, members: Team) -> Source:
        return NetworkSource(
            dataset,
            self.options.load(backbone, members.device),
            self.methods,
            class_from=self.class_from,
            options=self.options,
            map_size=self.map_size,
        )


def evaluate(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    split: Annotated[
        str, typer.Option(help="Which split to measure; val+test joins two.")
    ] = "test",
    backbone: Backbones = DEFAULTS.backbones,  # type: ignore[assignment]
    method: Methods = DEFAULTS.methods,  # type: ignore[assignment]
    scoremaps: Annotated[
        Path | None,
        typer.Option(help="Measure .npy score maps of this folder, no network."),
    ] = None,
    threshold_from: Annotated[
        str | None,
        typer.Option(help="Split on which thresholds are chosen, beside the sweep on the split."),
    ] = None,
    class_from: Annotated[
        ClassFrom, typer.Option(help="Explain the true class, or the predicted one.")
    ] = "label",
    metadata: Annotated[
        Path | None, typer.Option(help="Folder of the metadata, if not in --data.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder or .zip of the photos.")] = None,
    space: FeatureSpace = DEFAULTS.space,
    image_size: ImageSize = None,
    scales: Scales = None,
    flip: Flip = False,
    output_stride: OutputStride = None,
    precision: ForwardPrecision = DEFAULTS.precision,
    map_size: Annotated[
        int, typer.Option(min=8, help="Side of the score maps in pixels.")
    ] = MAP_SIZE,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos a forward pass.")] = BATCH_SIZE,
    force: Annotated[bool, typer.Option(help="Start anew, over what is in --out.")] = False,
) -> None:
    """Measure a data set: MaxBoxAcc, MaxBoxAccV2, Top-1, Top-5 and PxAP, with intervals.

    Interrupted, the same command goes on where it stopped. Under torchrun or accelerate launch
    the images are shared out among the processes; the figures are the same.
    """
    refuse_file(out)
    if scoremaps:
        _refuse_network_options(context)
    options = CompareOptions(space, image_size, output_stride, precision, tuple(scales or ()), flip)
    plan = _Plan(tuple(method), class_from, options, map_size)
    splits = [split] if threshold_from is None else [threshold_from, split]
    datasets = [open_dataset(data, name, metadata=metadata, images=images) for name in splits]
    _refuse_overlap(datasets)
    with team() as members:
        # All of them before the first is measured, so that what is wrong with one is said at once.
        sources = plan.sources(datasets, backbone, scoremaps, members)
        runs = [
            [Run(s, out / plain_name(name) / s.dataset.split, members, batch_size) for s in sides]
            for name, sides in sources.items()
        ]
        for run in itertools.chain(*runs):
            run.clear() if force else run.refuse_others()
        for of_one in runs:
            _measure(of_one)


def _refuse_network_options(context: typer.Context) -> None:
    """Say of options for networks that they would change nothing where files are measured.

    Raises:
        ValueError: some stand on the command line, be it with the values that they have anyway.
    """
    sources = {name: context.get_parameter_source(name) for name in OF_NETWORKS}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        told = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(
            f"--scoremaps measures files and no network, so {told} would change nothing; leave out "
            "either."
        )


def _refuse_overlap(datasets: list[Dataset]) -> None:
    """Thresholds that were chosen on the very images that are measured are no fixed ones.

    Raises:
        ValueError: the splits share images.
    """
    ids = [set(dataset.metadata.image_ids) for dataset in datasets]
    shared = set.intersection(*ids) if len(ids) > 1 else set()
    if shared:
        raise ValueError(
            f"--threshold-from and --split share {len(shared)} images, such as {min(shared)}; "
            "thresholds are fixed on images of their own."
        )


def _measure(runs: list[Run]) -> None:
    """Measure each split in turn; the last one also at the thresholds of the first."""
    fixed = None
    for run in runs:
        results = _with_progress(run, fixed)
        if run.team.leads:
            report = write_report(run, results)
            _show(results)
            say(f"{report}, results.json and images.csv are in {run.folder}")
            fixed = FixedThresholds.of(results)


def _with_progress(run: Run, fixed: FixedThresholds | None) -> Figures:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[skipped]}", style="red"),
    )
    with Progress(*columns, console=messages, disable=not run.team.leads) as bar:
        shown = run.source.dataset.name
        task = bar.add_task(shown, total=None, speed="", skipped="")

        def tell(done: int, total: int, skipped: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(
                task,
                completed=done,
                total=total,
                speed=f"{speed * run.team.size:.0f} images/s" if speed else "",
                skipped=f"{skipped} skipped" if skipped else "",
            )

        return evaluate_run(run, fixed, tell)


def _show(results: Figures) -> None:
    """The figures as a table, a row for each method and threshold policy."""
    columns, rows = summary(results, "main" if messages.width >= WIDE else "values")
    settings = results["settings"]
    told = settings.get("class_from", "")
    classes = f", class: {told}" if told else ""
    title = f"{settings['data']}, {results['num_images']} images{classes}; per cent"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        text = column in columns[:2]
        table.add_column(
            column, justify="left" if text else "right", overflow="fold", no_wrap=not text
        )
    for row in rows:
        table.add_row(*row)
    messages.print(table)
    say("; ".join(facts(results)))
    for skipped in results["skipped"][:5]:
        say(f"skipped {skipped['image_id']}: {skipped['reason']}", style="red")
    if len(results["skipped"]) > 5:
        say(f"… {len(results['skipped'])} images were skipped in all; results.json names them.")
