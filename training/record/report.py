"""The report of a run: one self-contained HTML file with curves, photos by epoch and numbers."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.record.epoch import EpochRecord, best_epoch, total
from training.record.files import CONFIG, GALLERY, JOURNAL, REPORT, epoch_folder, write_whole
from training.record.gallery import PANELS, DrawnPhoto, read_gallery
from training.record.journal import Journal
from training.record.plots import figures_of
from wsolviz.methods import find_panel
from wsolviz.pages import figure_html, fill_page, json_for_script, table_html
from wsolviz.ui.viewer import ASSETS


def write_report(folder: Path) -> Path:
    """Write report.html into a run's folder, out of its journal and its gallery.

    Args:
        folder: of the run.

    Raises:
        ValueError: a journal that cannot be read.
        OSError: the report cannot be written; the one before is still there.
    """
    path = folder / REPORT
    write_whole(path, report_html(folder))
    return path


def report_html(folder: Path) -> str:
    """A page that fetches nothing; see `write_report`."""
    records = Journal(folder / JOURNAL).records()
    config = folder / CONFIG
    epochs = list(_gallery(folder / GALLERY, records))
    return fill_page(
        "training",
        f"wsolviz: training {folder.resolve().name}",
        plots=bool(records),
        facts=html.escape(summary(records)),
        curves="".join(figure_html(figure) for figure in figures_of(records)),
        gallery=_gallery_html(epochs) if epochs else "<p>No photo was drawn.</p>",
        script=(ASSETS / "training.js").read_text(encoding="utf-8"),
        epochs=json_for_script(epochs),
        table=table_html(*table(records)),
        config=html.escape(config.read_text(encoding="utf-8") if config.is_file() else ""),
    )


def summary(records: Sequence[EpochRecord]) -> str:
    """What became of the run so far, in sentences."""
    if not records:
        return "Nothing was recorded yet."
    last = records[-1]
    seconds = sum(record.seconds for record in records)
    told = [
        f"{last.epochs_done} epochs, {last.steps} steps, {seconds / 60:.1f} minutes of training."
    ]
    best = best_epoch(records)
    if best is not None and best.validation is not None:
        validation = best.validation
        told.append(
            f"Best after epoch {best.epochs_done}: {validation.leading} {validation.score_name} "
            f"{validation.score} on {validation.data}."
        )
    before = records[0]
    if before.epochs_done == 0 and before.validation is not None:
        told.append(f"Before any training: {before.validation.score}.")
    if last.broken_images:
        told.append(f"{last.broken_images} broken images were left out.")
    return " ".join(told)


def table(records: Sequence[EpochRecord]) -> tuple[list[str], list[list[str]]]:
    """The epochs as a table for people: column titles, and a row for each epoch."""
    best = best_epoch(records)
    measured = [record.validation for record in records if record.validation]
    score = measured[0].score_name if measured else "score"
    accuracies = list(measured[0].classification) if measured else []
    columns = ["epoch", "loss", "lr", "top-1 training", *accuracies, score]
    columns += ["seconds", "images/s", "waiting"]
    rows = []
    for record in records:
        trained, validation = record.epochs_done > 0, record.validation
        rows.append(
            [
                f"{record.epochs_done}{' best' if record is best else ''}",
                f"{total(record.losses):.4f}" if record.losses else "",
                "" if record.lr is None else f"{record.lr:.3g}",
                "" if record.top1 is None else f"{record.top1:.1f}",
                *(str(validation.classification[n]) if validation else "" for n in accuracies),
                str(validation.score) if validation else "",
                f"{record.seconds:.1f}" if trained else "",
                f"{record.images_per_second:.1f}" if trained else "",
                f"{record.waiting:.0%}" if trained else "",
            ]
        )
    return columns, rows


def _gallery(folder: Path, records: Sequence[EpochRecord]) -> Iterator[dict[str, Any]]:
    """For each epoch that was drawn its title and its pictures, as the page's script takes them."""
    best = best_epoch(records)
    for record in records:
        photos = read_gallery(folder, record.epochs_done)
        if not photos:
            continue
        name = f"after epoch {record.epochs_done}" if record.epochs_done else "before any training"
        figure = record.validation and f"{record.validation.score_name} {record.validation.score}"
        parts = [name, figure, "best" if record is best else None]
        place = epoch_folder(folder, record.epochs_done)
        yield {
            "title": " · ".join(part for part in parts if part),
            "photos": [_pictures(place, photo) for photo in photos],
        }


def _pictures(folder: Path, photo: DrawnPhoto) -> dict[str, Any]:
    panels = {}
    for name, drawn in photo.panels.items():
        iou = "" if drawn.iou is None else f", IoU {drawn.iou:.2f}"
        panels[name] = {
            "src": f"data:image/webp;base64,{_base64(folder / drawn.file)}",
            "caption": f"τ {drawn.cam_threshold:.3f}{iou}",
        }
    sure = f"{photo.class_name}, probability {photo.probability:.3f}"
    return {"name": photo.name, "class": sure, "panels": panels}


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _gallery_html(epochs: Sequence[dict[str, Any]]) -> str:
    """The slider, and an empty place for each picture; the script fills them."""
    last = len(epochs) - 1
    titles = {name: html.escape(find_panel(name).title) for name in PANELS}
    parts = [
        "<div class='scrub'><label for='epoch'>epoch</label>"
        f"<input type='range' id='epoch' min='0' max='{last}' value='{last}' step='1'>"
        "<output id='shown' for='epoch'></output></div>"
    ]
    for number, photo in enumerate(epochs[last]["photos"]):
        parts.append(f"<h3>{html.escape(photo['name'])}: <span data-photo='{number}'></span></h3>")
        parts.append("<div class='panels'>")
        parts += [
            f"<figure data-photo='{number}' data-panel='{name}'><img alt=''>"
            f"<figcaption>{title} <span></span></figcaption></figure>"
            for name, title in titles.items()
        ]
        parts.append("</div>")
    return "".join(parts)
