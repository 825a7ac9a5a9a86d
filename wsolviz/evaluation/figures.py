"""The figures of a method, from its counts, and how they are told to people."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsolviz.compare import CompareOptions
from wsolviz.evaluation.mask_metrics import INSIDE, precision_and_recall
from wsolviz.evaluation.scoring import CENTRE_BOX
from wsolviz.evaluation.sources import UNKNOWN_LABELS, ClassFrom
from wsolviz.evaluation.tally import (
    CRITERIA,
    NAMES,
    V2_CRITERIA,
    Tally,
    at_thresholds,
    interval_of,
    thresholds_of,
)
from wsolviz.methods import find_method, is_panel

Figures: TypeAlias = dict[str, Any]
Detail = Literal["full", "main", "values"]

MAX_BOX_ACC, MAX_BOX_ACC_V2, GT_KNOWN, PXAP = "MaxBoxAcc", "MaxBoxAccV2", "GT-known Loc", "PxAP"
TOP_1, TOP_5 = "Top-1 Loc", "Top-5 Loc"
POLICY_SWEPT = "swept"  # the best threshold on the measured split, one for all images
POLICY_FIXED = "fixed"  # the best threshold on another split

# In the order of a table's columns, and how each column is called.
COLUMNS = {
    MAX_BOX_ACC_V2: MAX_BOX_ACC_V2,
    **{criterion.name: f"IoU {criterion.iou_threshold}" for criterion in V2_CRITERIA},
    MAX_BOX_ACC: MAX_BOX_ACC,
    GT_KNOWN: "GT-known",
    TOP_1: "Top-1",
    TOP_5: "Top-5",
}


def meaningful(class_from: ClassFrom | None, has_labels: bool) -> frozenset[str]:
    """Which figures mean something.

    Args:
        class_from: whose maps were measured; None where nobody knows.
        has_labels: whether the network's classes were compared with true ones.
    """
    names = {MAX_BOX_ACC, MAX_BOX_ACC_V2, *(criterion.name for criterion in V2_CRITERIA)}
    if class_from == "label":
        names.add(GT_KNOWN)  # which is MaxBoxAcc, since the true class was explained
    if has_labels:
        names.add(TOP_1)
        if class_from == "label":
            names.add(TOP_5)  # needs the true class's map, also where it is not the best class
    return frozenset(names)


def method_figures(
    tally: Tally, fixed: Mapping[str, float] | None, names: Collection[str]
) -> Figures:
    """One method's part of the results.

    Args:
        tally: of all images.
        fixed: its threshold for each criterion, chosen on another split; or None.
        names: which figures mean something.
    """
    figures: Figures = {"num_with_boxes": tally.num_boxes, "num_with_masks": tally.num_masks}
    if tally.num_boxes:
        accuracy, resampled = tally.accuracy(), tally.resampled_accuracy()
        figures["thresholds"] = thresholds_of(accuracy)
        figures[POLICY_SWEPT] = _at_one_policy(
            accuracy.max(axis=1), resampled.max(axis=2), figures["thresholds"], names
        )
        if fixed:
            figures[POLICY_FIXED] = _at_one_policy(
                at_thresholds(accuracy, fixed), at_thresholds(resampled, fixed), fixed, names
            )
        figures["num_correct"] = dict(zip(NAMES, tally.correct.tolist(), strict=True))
    if tally.histograms[INSIDE].any():
        value, interval = tally.pxap()
        figures[PXAP] = {"value": value, "interval": interval}
        precision, recall = precision_and_recall(tally.histograms)
        known = ~np.isnan(precision)
        figures["precision"], figures["recall"] = precision[known].tolist(), recall[known].tolist()
    return figures


def _at_one_policy(
    values: NDArray[np.floating],
    resampled: NDArray[np.floating],
    thresholds: Mapping[str, float],
    names: Collection[str],
) -> Figures:
    """Value, interval and threshold of each figure.

    Args:
        values: (len(CRITERIA),) per cent.
        resampled: (R,len(CRITERIA)) the same in every resample.
        thresholds: by criterion.
        names: the figures to give.
    """
    figures: Figures = {
        criterion.name: {
            "value": float(values[i]),
            "interval": interval_of(resampled[:, i]),
            "cam_threshold": thresholds[criterion.name],
        }
        for i, criterion in enumerate(CRITERIA)
    }
    v2 = [NAMES.index(criterion.name) for criterion in V2_CRITERIA]
    figures[MAX_BOX_ACC_V2] = {
        "value": float(values[v2].mean()),
        "interval": interval_of(resampled[:, v2].mean(axis=1)),
    }
    figures[GT_KNOWN] = figures[MAX_BOX_ACC]
    return {name: figures[name] for name in COLUMNS if name in names}


def split_of(results: Figures) -> str:
    """The name of the split that was measured."""
    return str(results["settings"]["data"]).rpartition("/")[2]


def method_title(name: str) -> str:
    """What a page calls a method; other programs' score maps have no other title than their name.

    >>> method_title("centre_box")
    'centre box'
    """
    if name == CENTRE_BOX:
        return "centre box"
    return find_method(name).title if is_panel(name) else name


def with_method_titles(results: Figures) -> Figures:
    """Results whose methods bear the titles of the page in place of the names of the files."""
    methods = {method_title(name): figures for name, figures in results["methods"].items()}
    return {**results, "methods": methods}


def facts(results: Figures) -> list[str]:
    """What to know beside the table: unusual options, classification, the meaning of labels."""
    texts = [
        f"{name} accuracy {figure['value']:.1f} % "
        f"[{figure['interval'][0]:.1f}, {figure['interval'][1]:.1f}]"
        for name, figure in results["classification"].items()
    ]
    settings = results["settings"]
    options = [
        f"{name} {settings[name]}"
        for name, usual in asdict(CompareOptions()).items()
        if name in settings and settings[name] not in (usual, [])  # JSON has no tuples
    ]
    return [*options, *texts, *_labels(settings)]


def _labels(settings: Figures) -> list[str]:
    labels = settings.get("labels")
    if labels == UNKNOWN_LABELS:
        return ["the network does not know these classes, so Top-1 and Top-5 are not given"]
    return [f"class labels: {labels}"] if labels else []


def summary(results: Figures, detail: Detail) -> tuple[list[str], list[list[str]]]:
    """The figures as a table for people: column titles, and a row for each method and policy.

    Args:
        results: of a run.
        detail: "full" gives each figure its interval and threshold ("63.7 [61.0, 67.2] τ 0.25"),
            "main" gives MaxBoxAccV2 its interval, "values" gives none. But for "full", GT-known is
            left out, which is MaxBoxAcc or nothing.
    """
    split = split_of(results)
    policies = {POLICY_SWEPT: f"swept {split}", POLICY_FIXED: f"fixed {results['fixed_on']}"}
    methods = results["methods"].values()
    names = [name for name in COLUMNS if any(name in m.get(POLICY_SWEPT, {}) for m in methods)]
    if detail != "full" and GT_KNOWN in names:
        names.remove(GT_KNOWN)
    with_masks = any(PXAP in figures for figures in methods)
    columns = ["method", "threshold", *(COLUMNS[name] for name in names)]
    rows = []
    for method, figures in results["methods"].items():
        for policy, told in policies.items():
            if policy not in figures and not (with_masks and policy == POLICY_SWEPT):
                continue
            of_policy = figures.get(policy, {})
            cells = [_cell(of_policy.get(name), name, detail) for name in names]
            if with_masks:  # an area under a curve has no threshold to choose
                swept = policy == POLICY_SWEPT
                cells.append(_cell(figures.get(PXAP) if swept else None, PXAP, detail))
            rows.append([method, told, *cells])
    return [*columns, *([PXAP] if with_masks else [])], rows


def _cell(figure: Figures | None, name: str, detail: Detail) -> str:
    if figure is None:
        return ""
    low, high = figure["interval"]
    cell = f"{figure['value']:.1f}"
    if detail == "full" or (detail == "main" and name in (MAX_BOX_ACC_V2, PXAP)):
        cell += f" [{low:.1f}, {high:.1f}]"
    if detail == "full" and "cam_threshold" in figure:
        cell += f" τ {figure['cam_threshold']:.3f}"
    return cell
