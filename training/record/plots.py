"""Curves of a run over its epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from training.record.epoch import EpochRecord, Figure, Validation, best_epoch, total
from wsolviz.evaluation.figures import COLUMNS
from wsolviz.evaluation.tally import V2_CRITERIA
from wsolviz.plot_style import COLOURS, titled

GIGABYTE = 2**30
TICKS = 10  # on the axis of epochs, or somewhat more


class Measured(NamedTuple):
    """An epoch that was measured."""

    epoch: int
    validation: Validation


def figures_of(records: Sequence[EpochRecord]) -> Iterator[go.Figure]:
    """Every curve that the records hold points of."""
    trained = [record for record in records if record.epochs_done]
    measured = [Measured(r.epochs_done, r.validation) for r in records if r.validation]
    if measured:
        yield score_figure(measured, best_epoch(records))
        if measured[0].validation.iou_figures:
            yield iou_figure(measured)
    if trained:
        yield losses_figure(trained)
    if trained or measured:
        yield accuracy_figure(trained, measured)
    if trained:
        yield lr_figure(trained)
        yield time_figure(trained)


def score_figure(measured: Sequence[Measured], best: EpochRecord | None) -> go.Figure:
    """What epochs are compared by, a curve a method, with intervals; the best epoch is marked."""
    figure = go.Figure()
    first = measured[0].validation
    name = first.score_name
    for i, method in enumerate(first.methods):
        found = [(m.epoch, m.validation.methods.get(method, {}).get(name)) for m in measured]
        _intervals(figure, method, COLOURS[i % len(COLOURS)], found)
    if best is not None and best.validation is not None:
        figure.add_scatter(
            x=[best.epochs_done],
            y=[best.validation.score.value],
            mode="markers",
            name="best epoch",
            marker={"symbol": "star", "size": 14, "color": COLOURS[0]},
            hovertemplate=f"best epoch, {best.validation.score}<extra></extra>",
        )
    return _over_epochs(figure, f"{name} on {first.data}, with 95 % intervals", "per cent")


def iou_figure(measured: Sequence[Measured]) -> go.Figure:
    """The leading method's accuracy at each IoU."""
    figure = go.Figure()
    for i, criterion in enumerate(V2_CRITERIA):
        found = [(m.epoch, m.validation.iou_figures.get(criterion.name)) for m in measured]
        _intervals(figure, COLUMNS[criterion.name], COLOURS[i], found)
    title = f"{measured[0].validation.leading}: images localized, by IoU in per cent"
    return _over_epochs(figure, title, "per cent")


def losses_figure(trained: Sequence[EpochRecord]) -> go.Figure:
    """Each loss without its weight, and their weighted sum."""
    figure = go.Figure()
    weights = {name: loss.weight for record in trained for name, loss in record.losses.items()}
    for i, (name, weight) in enumerate(weights.items()):
        label = name if weight == 1 else f"{name} (counts × {weight:g})"
        points = [(r.epochs_done, r.losses[name].value) for r in trained if name in r.losses]
        _curve(figure, label, COLOURS[i % len(COLOURS)], points)
    if len(weights) > 1:
        points = [(r.epochs_done, total(r.losses)) for r in trained]
        _curve(figure, "total", "gray", points, dash="dot")
    return _over_epochs(figure, "Losses, mean over the epoch", "loss")


def accuracy_figure(trained: Sequence[EpochRecord], measured: Sequence[Measured]) -> go.Figure:
    """Top-1 on the training batches, and accuracy in validation."""
    figure = go.Figure()
    points = [(r.epochs_done, r.top1) for r in trained if r.top1 is not None]
    _curve(figure, "top-1, training batches", COLOURS[0], points)
    names = dict.fromkeys(name for m in measured for name in m.validation.classification)
    for i, name in enumerate(names, start=1):
        found = [(m.epoch, m.validation.classification.get(name)) for m in measured]
        _intervals(figure, f"{name}, validation", COLOURS[i], found)
    return _over_epochs(figure, "Classification", "per cent")


def lr_figure(trained: Sequence[EpochRecord]) -> go.Figure:
    """The network's learning rate at the end of each epoch."""
    figure = go.Figure()
    points = [(r.epochs_done, r.lr) for r in trained if r.lr is not None]
    _curve(figure, "lr", COLOURS[0], points)
    return _over_epochs(figure, "Learning rate at the epoch's end", "lr")


def time_figure(trained: Sequence[EpochRecord]) -> go.Figure:
    """Where an epoch's seconds went."""
    figure = go.Figure()
    waiting = [record.waiting for record in trained]
    computing = [1 - share for share in waiting]
    for i, (name, shares) in enumerate({"computing": computing, "waiting": waiting}.items()):
        figure.add_bar(
            x=[record.epochs_done for record in trained],
            y=[record.seconds * share for record, share in zip(trained, shares, strict=True)],
            text=[f"{share:.0%}" for share in shares],
            textposition="none",
            customdata=[record.images_per_second for record in trained],
            name=name if name == "computing" else "waiting for data",
            marker={"color": COLOURS[i]},
            hovertemplate=f"epoch %{{x}}: {name} %{{y:.1f}} s (%{{text}})<br>"
            "%{customdata:.1f} images a second<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    peak = max((record.peak_memory or 0 for record in trained), default=0)
    memory = f", at most {peak / GIGABYTE:.1f} GiB of memory" if peak else ""
    return _over_epochs(figure, f"Time of training{memory}", "seconds")


def _curve(
    figure: go.Figure,
    name: str,
    colour: str,
    points: Sequence[tuple[int, float]],
    dash: str = "solid",
) -> None:
    if points:
        figure.add_scatter(
            x=[epoch for epoch, _ in points],
            y=[value for _, value in points],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            hovertemplate=f"{name}, epoch %{{x}}<br>%{{y:.4g}}<extra></extra>",
        )


def _intervals(
    figure: go.Figure, name: str, colour: str, points: Iterable[tuple[int, Figure | None]]
) -> None:
    """A curve of figures with their intervals, over the epochs that have one."""
    known = [(epoch, value) for epoch, value in points if value is not None]
    figure.add_scatter(
        x=[epoch for epoch, _ in known],
        y=[value.value for _, value in known],
        error_y={
            "array": [value.interval[1] - value.value for _, value in known],
            "arrayminus": [value.value - value.interval[0] for _, value in known],
            "thickness": 1,
        },
        name=name,
        mode="lines+markers",
        line={"color": colour},
        text=[str(value) for _, value in known],
        hovertemplate=f"{name}, epoch %{{x}}<br>%{{text}}<extra></extra>",
    )


def _over_epochs(figure: go.Figure, title: str, unit: str) -> go.Figure:
    last = max((max(curve.x) for curve in figure.data if len(curve.x)), default=0)
    figure.update_xaxes(title_text="epochs trained", dtick=max(1, round(last / TICKS)))
    figure.update_yaxes(title_text=unit)
    return titled(figure, title)
