"""From the records of a run to its results, and results that were kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from wsolviz.evaluation.evaluate import RESULTS, Progress, Run, ignore
from wsolviz.evaluation.figures import (
    MAX_BOX_ACC,
    POLICY_FIXED,
    POLICY_SWEPT,
    Figures,
    meaningful,
    method_figures,
    split_of,
)
from wsolviz.evaluation.table import Choice, write_table
from wsolviz.evaluation.tally import ClassTally, Tally


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
    def of(cls, results: Figures) -> FixedThresholds:
        """The thresholds that are best on the split that the results are of."""
        methods = results["methods"].items()
        return cls(
            split_of(results), {name: m["thresholds"] for name, m in methods if "thresholds" in m}
        )


def evaluate_run(
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
        ValueError: the folder holds a run with other settings, or every image was skipped.
    """
    fixed = run.team.share(fixed)
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
    names = meaningful(run.settings.get("class_from"), classes.num_images > 0)
    methods = {
        name: method_figures(tally, fixed.by_method.get(name) if fixed else None, names)
        for name, tally in tallies.items()
    }
    cases = write_table(run, records, {name: _chosen(m) for name, m in methods.items()})
    if not any(tally.num_boxes or tally.num_masks for tally in tallies.values()):
        _, first, reason = run.team.share(skipped[:1])[0]
        raise ValueError(f"Every image was skipped; the first, {first}, because: {reason}")
    if not run.team.leads:
        return {}
    results = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": run.settings,
        "num_images": len(run.source.dataset.metadata.image_ids),
        "skipped": [{"image_id": image, "reason": reason} for _, image, reason in skipped],
        "fixed_on": fixed.split if fixed else None,
        "classification": classes.figures(),
        "methods": methods,
        "cases": cases,
    }
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (run.folder / RESULTS).write_text(text, encoding="utf-8")
    return results


def _chosen(figures: Figures) -> Choice:
    """The threshold that the table of images tells of: a fixed one where there is one."""
    for policy in (POLICY_FIXED, POLICY_SWEPT):
        if policy in figures:
            return Choice(policy, figures[policy][MAX_BOX_ACC]["cam_threshold"])
    return Choice("", 0.0)
