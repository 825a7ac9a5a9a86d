"""The model card: what weights are, what they were trained on, what they give, how to load them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from training.publish.front_matter import card_data, source_name
from training.publish.weights import timm_model
from training.record.epoch import EpochRecord, Figure, Validation
from training.record.files import JOURNAL, write_whole
from training.record.journal import Journal
from wsolviz.backends.own_format import WeightsHeader, read_header
from wsolviz.evaluation.figures import COLUMNS, PXAP, Figures, facts, summary

CARD = "README.md"
REPOSITORY = "OWNER/NAME"  # in a card, until it is known
HUB_FILE = "model.safetensors"


def write_card(folder: Path, name: str, measured: Sequence[Figures] = ()) -> Path:
    """Write README.md beside a run's weights, out of their header and the run's journal.

    Args:
        folder: of the run.
        name: of the run.
        measured: results of `evaluate` on other splits, which are told, too.

    Raises:
        FileNotFoundError: there are no weights of that name.
        OSError: the card cannot be written; the one before is still there.
    """
    weights = folder / f"{name}.safetensors"
    header = read_header(weights)
    if header is None:
        raise FileNotFoundError(f"There are no weights {weights} that this project has written.")
    text = card_text(name, header, Journal(folder / JOURNAL).records(), measured)
    write_whole(folder / CARD, text)
    return folder / CARD


def card_text(
    name: str,
    header: WeightsHeader,
    records: Sequence[EpochRecord] = (),
    measured: Sequence[Figures] = (),
) -> str:
    """A model card as the Hub reads it: YAML between dashes, then Markdown.

    Args:
        name: of the run.
        header: of its weights.
        records: of its epochs.
        measured: see `write_card`.
    """
    figures = header.details.get("figures")
    validation = None if figures is None else Validation.model_validate(figures)
    parts = [
        f"---\n{card_data(name, header, validation, measured).to_yaml()}\n---",
        f"# {name}",
        *_what_it_is(header),
        "## What it gives",
        *_figures(header, validation, records, measured),
        "## How it was trained",
        *_training(header, records),
        "## How to load it",
        *_loading(name, header),
    ]
    return "\n\n".join(parts) + "\n"


def _what_it_is(header: WeightsHeader) -> Iterator[str]:
    config = header.details["config"]
    method, start = config["method"]["name"], config["backbone"]
    begun = "random weights" if start["weights"] is None else f"its weights {start['weights']}"
    yield (
        f"`{header.backbone}` with {header.num_classes} classes, trained by wsolviz with the "
        f"method `{method}` from image labels alone; boxes and masks were for measuring only. "
        f"It began as `{start['name']}` with {begun}."
    )
    lines = [f"- trained on: {_described(source)}" for source in config["data"]["train"]]
    lines.append(f"- licence of the weights: {header.licence or 'not stated'}")
    if header.input is not None:
        height, width = header.input.size
        lines.append(
            f"- input: the whole photo, warped to {height}×{width} pixels (height×width), "
            f"mean {header.input.mean}, standard deviation {header.input.std}"
        )
    if header.output_stride is not None:
        lines.append(f"- output stride: {header.output_stride}")
    yield "\n".join(lines)


def _described(source: dict[str, Any]) -> str:
    more = {
        "metadata": f", split {source.get('split')}",
        "folders": ", one folder a class",
        "webdataset": f", {source.get('num_images')} images in shards",
    }
    return f"{source_name(source)}{more[source['kind']]}"


def _figures(
    header: WeightsHeader,
    validation: Validation | None,
    records: Sequence[EpochRecord],
    measured: Sequence[Figures],
) -> Iterator[str]:
    yield (
        "Per cent, with 95 % bootstrap intervals over images. Localization is that of the "
        "[WSOL benchmark](https://arxiv.org/abs/2007.04178), of the true class's map, at the "
        "threshold that is best on the measured split (swept), or on another one (fixed)."
    )
    if validation is not None:
        chosen = header.details["config"]["validation"].get("result") != "last"
        yield (
            f"After epoch {header.details['epochs_done']}, on {validation.data}, by which the "
            f"{'epoch' if chosen else 'threshold'} was chosen ({validation.num_images} images):"
        )
        yield _validation_table(validation)
        before = next((r.validation for r in records if r.epochs_done == 0 and r.validation), None)
        if before is not None:
            yield f"Before any training, on the same images:\n\n{_validation_table(before)}"
    for results in measured:
        told = "; ".join([f"{results['num_images']} images", *facts(results)])
        columns, rows = summary(results, "full")
        yield f"On {results['settings']['data']} ({told}):\n\n{_markdown(columns, rows)}"
    if validation is None and not measured:
        yield "It was not measured."


def _validation_table(validation: Validation) -> str:
    known = [*COLUMNS, PXAP]
    names = [n for n in known if any(n in figures for figures in validation.methods.values())]
    rows = [
        [method, *(_cell(figures.get(name)) for name in names)]
        for method, figures in validation.methods.items()
    ]
    table = _markdown(["method", *(COLUMNS.get(name, name) for name in names)], rows)
    accuracies = [f"{name} accuracy {f}." for name, f in validation.classification.items()]
    return "\n\n".join([table, *([" ".join(accuracies)] if accuracies else [])])


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure}" + ("" if figure.cam_threshold is None else f" τ {figure.cam_threshold:.3f}")


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _training(header: WeightsHeader, records: Sequence[EpochRecord]) -> Iterator[str]:
    details, last = header.details, records[-1] if records else None
    yield f"```sh\n{details['command']}\n```"
    lines = [f"- hardware: {details['hardware']}"]
    if last is not None:
        minutes = sum(record.seconds for record in records) / 60
        lines.append(
            f"- time: {minutes:.1f} minutes for {last.epochs_done} epochs, {last.steps} steps"
        )
        losses = ", ".join(
            f"{name} {loss.value:.4f} × {loss.weight:g}" for name, loss in last.losses.items()
        )
        lines.append(f"- losses in the last epoch: {losses or 'none'}")
        if last.broken_images:
            lines.append(f"- broken images that were left out: {last.broken_images}")
    lines.append(f"- seed: {details['seed']}")
    lines.append(f"- commit of wsolviz: {details['git_commit'] or 'not known'}")
    versions = ", ".join(f"{name} {version}" for name, version in details["versions"].items())
    lines.append(f"- versions: {versions or 'not known'}")
    yield "\n".join(lines)
    config = yaml.safe_dump(details["config"], sort_keys=False, allow_unicode=True)
    yield (
        f"<details><summary>Configuration (sha256 {details['config_sha256']})</summary>\n\n"
        f"```yaml\n{config}```\n\n</details>"
    )


def _loading(name: str, header: WeightsHeader) -> Iterator[str]:
    file = f"{name}.safetensors"
    timm_name = timm_model(header.backbone)
    on_hub = HUB_FILE if timm_name else file
    yield (
        f"```python\nimport wsolviz\n\nbackbone = wsolviz.load_backbone({f'file/{file}'!r})\n"
        'explanations = wsolviz.explain("photo.jpg", backbone, ["cam", "feature_norm", "cosine"])\n'
        "```"
    )
    yield (
        "From the Hub:\n\n```python\nfrom huggingface_hub import hf_hub_download\n\n"
        f'path = hf_hub_download("{REPOSITORY}", "{on_hub}")\n'
        'backbone = wsolviz.load_backbone(f"file/{path}")\n```'
    )
    if timm_name:
        yield (
            f"It is timm's `{timm_name}`, so that timm alone opens it, too:\n\n```python\n"
            f'import timm\n\nmodel = timm.create_model("hf-hub:{REPOSITORY}", pretrained=True)\n```'
        )
    else:
        yield (
            f"The network is not one of timm's: `{on_hub}` is in wsolviz's own format, and timm "
            "does not open it."
        )
