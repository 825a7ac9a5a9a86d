"""Receptive fields against localization: does a wide field go with good boxes, over backbones?

Source: CAM Back Again (Yasuki & Taki, CVPR 2024), section 4, which plots the one against the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.stats import rankdata

from wsolviz.analysis.erf import THRESHOLDS
from wsolviz.evaluation.evaluate import RESULTS
from wsolviz.evaluation.figures import MAX_BOX_ACC_V2, POLICY_SWEPT, PXAP, Figures
from wsolviz.evaluation.scoring import CENTRE_BOX
from wsolviz.fields.request import FieldRow
from wsolviz.plot_style import COLOURS, titled

MIN_BACKBONES = 3  # through two points there is always a line
FEW = 8  # below, resamples repeat the same few points, and their intervals are too narrow
RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # per cent of the resamples
OF_DATA_SETS = frozenset({"images", "masks", "metadata"})  # large, and without results
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True)
class Localization:
    """How well one backbone and method localizes on a data set.

    Attributes:
        data: the data set and its split.
        backbone: its name; `sha256` is that of its weights' file, None where there is none.
        method: whose score maps were measured.
        measure: MaxBoxAccV2, or PxAP where the set has only masks.
        value: in per cent, and its 95 % interval over images.
    """

    data: str
    backbone: str
    sha256: str | None
    method: str
    measure: str
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Point:
    """One backbone and method: the share of the image that its field covers, and its figure."""

    backbone: str
    method: str
    share: float
    measure: str
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Correlation:
    """How the points of one method hang together, a point a backbone.

    Attributes:
        method: whose points they are.
        num_backbones: how many points.
        pearson: and `spearman`, of ranks; None with fewer than MIN_BACKBONES, or where all shares
            or all figures are the same.
        pearson_interval: 95 %, from resampled backbones; `spearman_interval` likewise.
    """

    method: str
    num_backbones: int
    pearson: float | None = None
    pearson_interval: tuple[float, float] | None = None
    spearman: float | None = None
    spearman_interval: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """As it is told to people."""
        if self.pearson is None or self.pearson_interval is None:
            few = self.num_backbones < MIN_BACKBONES
            why = f"it takes {MIN_BACKBONES}" if few else "they do not differ"
            count = f"{self.num_backbones} backbone{'' if self.num_backbones == 1 else 's'}"
            return f"{self.method}: no correlation is given for {count}; {why}."
        assert self.spearman is not None and self.spearman_interval is not None
        return (
            f"{self.method}: Pearson {_told(self.pearson, self.pearson_interval)}, Spearman "
            f"{_told(self.spearman, self.spearman_interval)}, over {self.num_backbones} backbones."
            + (" So few prove nothing, whatever the interval." if self.num_backbones < FEW else "")
        )


def _told(value: float, interval: tuple[float, float]) -> str:
    shown = (round(number, 2) + 0.0 for number in (value, *interval))  # no -0.00
    return "{:.2f} [{:.2f}, {:.2f}]".format(*shown)


def find_results(folder: Path, depth: int = 3) -> list[Path]:
    """The results that `evaluate` left in a folder and those below it.

    Args:
        folder: of a run, or of several; or a results file itself.
        depth: how far below it is searched.
    """
    if folder.is_file():
        return [folder]
    found = [folder / RESULTS] if (folder / RESULTS).is_file() else []
    if depth and folder.is_dir():
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name not in OF_DATA_SETS:
                found += find_results(child, depth - 1)
    return found


def read_results(path: Path) -> list[Localization]:
    """What a results file says of its backbone; nothing where it measured no backbone.

    Raises:
        ValueError: it is no results file of `evaluate`.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return localizations_of(results)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no results file of wsolviz evaluate.") from error


def localizations_of(results: Figures) -> list[Localization]:
    """A figure for each method of a run: MaxBoxAccV2, or PxAP where it has no boxes."""
    settings = results["settings"]
    if "backbone" not in settings:  # score maps of other programs
        return []
    found = []
    for method, figures in results["methods"].items():
        boxes = figures.get(POLICY_SWEPT, {}).get(MAX_BOX_ACC_V2)
        measure, figure = (MAX_BOX_ACC_V2, boxes) if boxes else (PXAP, figures.get(PXAP))
        # The centre box is a baseline that looks at no network.
        if figure and method != CENTRE_BOX:
            low, high = figure["interval"]
            found.append(
                Localization(
                    data=settings["data"],
                    backbone=settings["backbone"],
                    sha256=settings["weights_sha256"],
                    method=method,
                    measure=measure,
                    value=figure["value"],
                    interval=(low, high),
                )
            )
    return found


def pair(
    rows: Iterable[FieldRow], localizations: Sequence[Localization], threshold: float
) -> tuple[Point, ...]:
    """A point for each backbone and method that has both a field and a figure.

    Only fields of trained weights count, and of the very weights that were measured. Of several
    runs of one backbone and method the last counts.

    Args:
        rows: fields, all at one input size.
        localizations: on one data set.
        threshold: t of the area, one of THRESHOLDS.
    """
    points: dict[tuple[str, str], Point] = {}
    for row in rows:
        (area,) = (area for area in row.areas if area.threshold == threshold)
        if row.weights != "trained" or np.isnan(area.share):
            continue
        for told in localizations:
            if told.backbone == row.backbone and told.sha256 in (None, row.sha256):
                points[row.backbone, told.method] = Point(
                    row.backbone, told.method, area.share, told.measure, told.value, told.interval
                )
    return tuple(points.values())


def correlations(points: Sequence[Point], seed: int = 0) -> tuple[Correlation, ...]:
    """For each method, how area and localization hang together over the backbones.

    Methods are told apart, since the points of one backbone share its field and are no independent
    observations.

    Args:
        points: see `pair`.
        seed: of the resamples.
    """
    methods = dict.fromkeys(point.method for point in points)
    return tuple(_correlation(m, [p for p in points if p.method == m], seed) for m in methods)


def _correlation(method: str, points: Sequence[Point], seed: int) -> Correlation:
    count = len(points)
    values = np.array([(point.share, point.value) for point in points])
    if count < MIN_BACKBONES or (values == values[0]).all(axis=0).any():
        return Correlation(method, count)
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    samples = values[draws]  # (R,N,2)
    return Correlation(
        method,
        count,
        _pearson(values),
        _interval([_pearson(sample) for sample in samples]),
        _pearson(rankdata(values, axis=0)),
        _interval([_pearson(rankdata(sample, axis=0)) for sample in samples]),
    )


def _pearson(values: NDArray[np.float64]) -> float:
    """Of (N,2); NaN where a column is constant."""
    centred = values - values.mean(axis=0)
    x, y = centred.T
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if spread > 1e-12 else float("nan")


def _interval(resampled: Sequence[float]) -> tuple[float, float]:
    """Resamples that hold one backbone only have no correlation, and are left out."""
    low, high = np.nanpercentile(resampled, INTERVAL)
    return float(low), float(high)


def scatter_figure(points: Sequence[Point], data: str, size: int, threshold: float) -> go.Figure:
    """Localization against the field's area: a colour a backbone, a form a method.

    Args:
        points: see `pair`.
        data: the data set, for the title.
        size: input size of the fields.
        threshold: t of the area.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(point.backbone for point in points))
    methods = list(dict.fromkeys(point.method for point in points))
    for point in points:
        low, high = point.interval
        figure.add_scatter(
            x=[100 * point.share],
            y=[point.value],
            mode="markers",
            name=f"{point.backbone}, {point.method}",
            marker={
                "color": COLOURS[names.index(point.backbone) % len(COLOURS)],
                "symbol": SYMBOLS[methods.index(point.method) % len(SYMBOLS)],
                "size": 11,
            },
            error_y={"array": [high - point.value], "arrayminus": [point.value - low]},
            hovertemplate=f"{point.backbone}, {point.method}<br>area %{{x:.1f}} %<br>"
            f"{point.measure} %{{y:.1f}} [{low:.1f}, {high:.1f}]<extra></extra>",
        )
    measures = " or ".join(dict.fromkeys(point.measure for point in points))
    figure.update_xaxes(title_text=f"area {threshold:.0%} of the field, % of the image")
    figure.update_yaxes(title_text=f"{measures}, %")
    return titled(figure, f"{data} against fields at {size}×{size}")


def localization_manifest(
    rows: Sequence[FieldRow], localizations: Sequence[Localization]
) -> list[dict[str, Any]]:
    """Points and correlations for each data set and t, as plain values."""
    return [
        {
            "data": data,
            "area_threshold": threshold,
            "points": [asdict(point) for point in points],
            "correlations": [asdict(found) for found in correlations(points)],
        }
        for data in dict.fromkeys(told.data for told in localizations)
        for threshold in THRESHOLDS
        if (points := pair(rows, [t for t in localizations if t.data == data], threshold))
    ]
