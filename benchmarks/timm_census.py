"""Which of timm's families give an exact CAM: the smallest model of each, with random weights.

    python -m benchmarks.timm_census

prints the table and writes docs/timm_census.md. Weights are random, so that no network is needed;
whether a head is linear does not depend on them. What a fresh network leaves at zero or one (norms,
biases, some classifiers) is randomized too, so that no check is passed by a head that does nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.timm_backbone import as_backbone

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(__file__).with_name("timm_census_models.json")
PAGE = ROOT / "docs" / "timm_census.md"
COMMAND = "python -m benchmarks.timm_census"
HEADERS = ("family", "model", "map C×h×w", "CAM", "head", "deviation", "why not exact")
SEED = 0


@dataclass(frozen=True)
class Row:
    """What one family's smallest model came out as."""

    family: str
    model: str
    map_shape: str
    kind: str
    head: str
    deviation: float | None
    reason: str

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of HEADERS."""
        deviation = "" if self.deviation is None else f"{self.deviation:.0e}"
        return (
            self.family,
            self.model,
            self.map_shape,
            self.kind,
            self.head,
            deviation,
            self.reason,
        )


def smallest_models() -> dict[str, str]:
    """Family to the model with the fewest parameters; kept in a file for each version of timm."""
    if MODELS.exists():
        kept = json.loads(MODELS.read_text())
        if kept["timm"] == timm.__version__:
            return dict(kept["models"])
    models = {}
    for family in track(timm.list_modules(), "Counting parameters"):
        names = timm.list_models(module=family)
        models[family] = min(names, key=lambda name: (num_parameters(name), name))
    MODELS.write_text(json.dumps({"timm": timm.__version__, "models": models}, indent=1) + "\n")
    return models


def num_parameters(name: str) -> int:
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False)
    return sum(parameter.numel() for parameter in module.parameters())


def build(name: str) -> nn.Module:
    """The model with random weights; an encoder without a classifier gets one of 1000 classes."""
    torch.manual_seed(SEED)
    module = timm.create_model(name, pretrained=False)
    if not module.num_classes:
        module = timm.create_model(name, pretrained=False, num_classes=1000)
    randomize(module)
    return module


@torch.no_grad()
def randomize(module: nn.Module) -> None:
    """Give values to what is built as one constant: norms, their statistics, biases, zero heads."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.2)
        elif isinstance(tensor, nn.Parameter) and tensor.numel() > 1 and is_constant(tensor):
            tensor.add_(torch.randn_like(tensor), alpha=0.2 if tensor.ndim == 1 else 0.02)


def is_constant(tensor: torch.Tensor) -> bool:
    return bool(tensor.min() == tensor.max())


def examine(family: str, name: str) -> Row:
    """One row; only a ValueError, the answer that a user would get, counts as refused."""
    try:
        backbone = as_backbone(f"timm/{name}", build(name), WeightsInfo("random"))
    except (ValueError, NotImplementedError) as error:
        return Row(family, name, "", "refused", "", None, str(error))
    height, width = backbone.preprocessing.size
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(SEED))
    features = backbone.extract(images)
    shape = "×".join(map(str, features.feature_map.shape[1:]))
    head = "" if backbone.head is None else backbone.head.form
    kind = "exact" if features.exact else "gradient"
    return Row(family, name, shape, kind, head, backbone.gap_deviation, backbone.inexactness)


def counts(rows: list[Row]) -> dict[str, int]:
    return {kind: sum(r.kind == kind for r in rows) for kind in ("exact", "gradient", "refused")}


def page(rows: list[Row]) -> str:
    """The table as Markdown, the counts on top."""
    tally = counts(rows)
    lines = [
        "# Which timm models give an exact CAM",
        "",
        f"The smallest model of each of timm {timm.__version__}'s {len(rows)} families: "
        f"**{tally['exact']} exact**, **{tally['gradient']} by gradient**, "
        f"**{tally['refused']} refused**.",
        "",
        "- *exact*: CAM plus bias averages to the class's logit, to 1e-4 of the logits' scale. The "
        "deviation is the largest one measured, on a random image and on random maps.",
        "- *gradient*: no constant weight exists; the map is weighted by the gradient of the "
        "class's logit, which is Grad-CAM without its ReLU.",
        "- *refused*: an error that says why.",
        "",
        "Weights are random, and what a fresh network holds at zero or one is randomized too, so "
        "that no check is passed by a head that does nothing. Input is each model's own size. "
        "Models without a classifier were given one of 1000 classes.",
        "",
        f"Made by `{COMMAND}`.",
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|" + "---|" * len(HEADERS),
    ]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def table(rows: list[Row]) -> Table:
    shown = Table(*HEADERS, title=f"timm {timm.__version__}", caption=str(counts(rows)))
    colours = {"exact": "green", "gradient": "yellow", "refused": "red"}
    for row in rows:
        shown.add_row(*row.cells(), style=colours[row.kind])
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("families", nargs="*", help="only these; the page is then left alone")
    chosen = parser.parse_args().families
    models = smallest_models()
    unknown = [family for family in chosen if family not in models]
    if unknown:
        sys.exit(f"timm has no family {', '.join(unknown)}; it has {', '.join(models)}.")
    rows = [examine(family, models[family]) for family in track(chosen or models, "Families")]
    Console().print(table(rows))
    if not chosen:
        PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()
