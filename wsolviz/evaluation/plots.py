"""Curves of a run: accuracy against threshold, precision against recall."""

from __future__ import annotations

import plotly.graph_objects as go

from wsolviz.evaluation.box_metrics import CAM_THRESHOLDS
from wsolviz.evaluation.figures import POLICY_SWEPT, Figures
from wsolviz.evaluation.tally import CRITERIA
from wsolviz.plot_style import COLOURS, titled

TITLES = {
    "MaxBoxAcc": "largest contour, IoU ≥ 50 %",
    "Top-1 Loc": "the same, and the class is the network's best",
    "Top-5 Loc": "the same, and the class is among its best five",
    **{c.name: f"all contours, IoU ≥ {c.iou_threshold} %" for c in CRITERIA if c.contours == "all"},
}
CURVES = tuple(TITLES)


def accuracy_figure(results: Figures, criterion: str) -> go.Figure:
    """Per cent of images localized against the threshold, a curve a method, the best marked.

    Args:
        results: of a run.
        criterion: one of CURVES.
    """
    figure = go.Figure()
    for i, (name, method) in enumerate(results["methods"].items()):
        if criterion not in method.get(POLICY_SWEPT, {}):
            continue
        colour = COLOURS[i % len(COLOURS)]
        count = max(method["num_with_boxes"], 1)
        curve = [100 * correct / count for correct in method["num_correct"][criterion]]
        figure.add_scatter(
            x=CAM_THRESHOLDS.tolist(),
            y=curve,
            name=name,
            line={"color": colour},
            hovertemplate=f"{name}<br>τ %{{x:.3f}}<br>%{{y:.1f}} %<extra></extra>",
        )
        best = method[POLICY_SWEPT][criterion]
        figure.add_scatter(
            x=[best["cam_threshold"]],
            y=[best["value"]],
            mode="markers",
            marker={"color": colour, "size": 9},
            showlegend=False,
            hovertemplate=f"{name}: best {best['value']:.1f} % at τ {best['cam_threshold']:.3f}"
            "<extra></extra>",
        )
    figure.update_xaxes(title_text="cam_threshold τ", range=[0, 1])
    figure.update_yaxes(title_text="images localized, %", range=[0, 100])
    return titled(figure, f"{results['settings']['data']}: {criterion}, {TITLES[criterion]}")


def precision_figure(results: Figures) -> go.Figure | None:
    """Precision against recall of pixels, a curve a method; None for a set without masks."""
    figure = go.Figure()
    for i, (name, method) in enumerate(results["methods"].items()):
        if "PxAP" in method:
            figure.add_scatter(
                x=method["recall"],
                y=method["precision"],
                name=f"{name} {method['PxAP']['value']:.1f}",
                line={"color": COLOURS[i % len(COLOURS)]},
            )
    if not figure.data:
        return None
    figure.update_xaxes(title_text="recall of pixels", range=[0, 1])
    figure.update_yaxes(title_text="precision", range=[0, 1])
    return titled(figure, f"{results['settings']['data']}: PxAP, the area under each curve")
