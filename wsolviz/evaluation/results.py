"""From the records of a run to its results: figures, their intervals, and the table of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsolviz.evaluation.evaluate import Progress, Run, ignore
from wsolviz.evaluation.mask_metrics import precision_and_recall
from wsolviz.evaluation.table import Choice, write_table
from wsolviz.evaluation.tally import (
    CRITERIA,
    NAMES,
    V2_CRITERIA,
    ClassTally,
    Tally,
    at_thresholds,
    interval_of,
    thresholds_of,
)
from wsolviz.export import versions

Figures: TypeAlias = dict[str, Any]

RESULTS = "results.json"
MAX_BOX_ACC_V2 = "MaxBoxAccV2"
POLICY_SWEPT = "swept"  # the best threshold on the measured split, one for all images
POLICY_FIXED = "fixed"  # the best threshold on another split


@dataclass(frozen=True)
class FixedThresholds:
    """Thresholds that were chosen on another split.

    Attributes:
        split: where.
        by_method: for each method its threshold by criterion, see `thresholds_of`.
    """

    split: str
    by_method: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path) -> FixedThresholds:
        """The thresholds that are best on the split whose results lie in a folder.

        Raises:
            FileNotFoundError: no results there.
        """
        results = read_results(folder)
        split = results["settings"]["data"].rpartition("/")[2]
        return cls(split, {name: m["thresholds"] for name, m in results["methods"].items()})


def read_results(folder: Path) -> Figures:
    """The results of a finished run.

    Raises:
        FileNotFoundError: no results in that folder.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"There are no results in {folder} (looked for {path}).")
    results: Figures = json.loads(path.read_text(encoding="utf-8"))
    return results


def evaluate(
    run: Run, fixed: FixedThresholds | None = None, progress: Progress = ignore
) -> Figures:
    """Measure a data set, or what is left of it, and write the results into the run's folder.

    Args:
        run: what to measure.
        fixed: thresholds of another split, which give figures beside the swept ones; those of the
            leading process count.
        progress: see `Run.measure`.

    Returns:
        What results.json holds, in the leading process; in the others nothing.

    Raises:
        ValueError: the folder holds a run with other settings, `fixed` lacks a method, or every
            image was skipped.
    """
    fixed = run.team.share(fixed)
    missing = [m for m in run.source.methods if fixed and m not in fixed.by_method]
    if fixed and missing:
        raise ValueError(f"The results of {fixed.split} know no thresholds of {missing[0]}.")
    records = run.measure(progress)
    tallies = {method: Tally() for method in run.source.methods}
    classes = ClassTally()
    failures = []
    for record in records:
        classes.add(record)
        for method, tally in tallies.items():
            tally.add(record, method)
        if record.failure:
            failures.append((record.index, record.image_id, record.failure))
    classes.reduce(run.team)
    for tally in tallies.values():
        tally.reduce(run.team)
    skipped = sorted(row for rows in run.team.gather(failures) for row in rows)
    methods = {name: method_figures(t, fixed, name, run) for name, t in tallies.items()}
    cases = write_table(run, records, {name: _chosen(m) for name, m in methods.items()})
    if not run.team.leads:
        return {}
    if not any(tally.num_boxes or tally.num_masks for tally in tallies.values()):
        raise ValueError(
            f"Every image was skipped; the first, {skipped[0][1]}, because: {skipped[0][2]}"
        )
    results = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "settings": run.settings,
        "num_images": len(run.source.dataset.metadata.image_ids),
        "skipped": [{"image_id": image, "reason": reason} for _, image, reason in skipped],
        "fixed_on": fixed.split if fixed else None,
        "classification": {
            name: {"value": value, "interval": interval}
            for name, (value, interval) in classes.accuracy().items()
        },
        "methods": methods,
        "cases": cases,
    }
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (run.folder / RESULTS).write_text(text, encoding="utf-8")
    return results


def _chosen(figures: Figures) -> Choice:
    """The threshold that the table of images tells of: a fixed one where there is one."""
    policy = POLICY_FIXED if POLICY_FIXED in figures else POLICY_SWEPT
    if policy not in figures:
        return Choice("", 0.0)
    return Choice(policy, figures[policy]["MaxBoxAcc"]["cam_threshold"])


def method_figures(tally: Tally, fixed: FixedThresholds | None, name: str, run: Run) -> Figures:
    """One method's part of the results."""
    figures: Figures = {"num_with_boxes": tally.num_boxes, "num_with_masks": tally.num_masks}
    if tally.num_boxes:
        accuracy, resampled = tally.accuracy(), tally.resampled_accuracy()
        thresholds = thresholds_of(accuracy)
        figures["thresholds"] = thresholds
        figures[POLICY_SWEPT] = _figures(
            accuracy.max(axis=1), resampled.max(axis=2), thresholds, run
        )
        if fixed:
            chosen = fixed.by_method[name]
            figures[POLICY_FIXED] = _figures(
                at_thresholds(accuracy, chosen), at_thresholds(resampled, chosen), chosen, run
            )
        figures["num_correct"] = dict(zip(NAMES, tally.correct.tolist(), strict=True))
    if tally.num_masks:
        value, interval = tally.pxap()
        figures["PxAP"] = {"value": value, "interval": interval}
        precision, recall = precision_and_recall(tally.histograms)
        kept = ~np.isnan(precision)
        figures["precision"], figures["recall"] = precision[kept].tolist(), recall[kept].tolist()
    return figures


def _figures(
    values: NDArray[np.floating],
    resampled: NDArray[np.floating],
    thresholds: Mapping[str, float],
    run: Run,
) -> Figures:
    """Value, interval and threshold of each criterion, and of MaxBoxAccV2.

    Args:
        values: (len(CRITERIA),) per cent.
        resampled: (R,len(CRITERIA)) the same in every resample.
        thresholds: by criterion.
        run: which decides what the figures may be called.
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
    class_from = run.settings.get("class_from")
    if class_from == "label":
        figures["GT-known Loc"] = figures["MaxBoxAcc"]  # the true class was explained
    else:
        del figures["Top-5 Loc"]  # only the best class was explained
    if class_from is None:
        del figures["Top-1 Loc"]
    return figures
