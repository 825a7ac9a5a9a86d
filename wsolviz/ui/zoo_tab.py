"""The Model zoo tab: every published checkpoint, and whether it is here."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from wsolviz.backends.zoo import ZOO, Published, ZooEntry
from wsolviz.backends.zoo_backbones import input_size
from wsolviz.methods import find_panel
from wsolviz.ui.backbones import add_backbone, backbones_here, link, linked
from wsolviz.ui.cases import COMPARE
from wsolviz.ui.compare_tab import CompareTab
from wsolviz.ui.viewer import ASSETS
from wsolviz.ui.weights_input import VARIABLE

UPLOADS = {
    True: "A checkpoint of your own can be sent in Compare, under *A checkpoint of your own*.",
    False: "Checkpoints of visitors are not taken here. The owner of this server allows them at "
    f"the start: `python -m wsolviz app --allow-upload-weights`, or `{VARIABLE}=1`.",
}


def introduction(*, uploads: bool) -> str:
    """What stands above the tables, in Markdown."""
    others = ", ".join(f"`{name}`" for name in backbones_here() if name not in ZOO)
    return (
        "Published checkpoints, and whether their files are on this server. Few of them may be "
        "passed on, so most have to be fetched by the server's owner. Here besides them: "
        f"{others}, and any timm model as `timm/NAME`. {UPLOADS[uploads]}"
    )


def zoo_html() -> str:
    """The zoo as HTML: a table of the checkpoints that are here, then a fold a page of the others.

    The tables' roles hold where the style makes cards of their rows.
    """
    here = [entry for entry in ZOO.values() if entry.is_here]
    absent: dict[str, list[ZooEntry]] = {}
    for entry in ZOO.values():
        if not entry.is_here:
            absent.setdefault(entry.page, []).append(entry)
    told = f"<h3>On this server ({len(here)})</h3>{_table('On this server', here)}" if here else ""
    if absent:
        told += f"<h3>Not here yet ({len(ZOO) - len(here)})</h3>"
    return told + "".join(_fold(entries) for entries in absent.values())


def _fold(entries: list[ZooEntry]) -> str:
    title, names = _page_title(entries[0]), ", ".join(entry.name for entry in entries)
    return (
        f"<details><summary><strong>{html.escape(title)}</strong> ({len(entries)})"
        f"<small>{html.escape(names)}</small></summary>"
        f"{_table(f'Not here yet: {title}', entries)}</details>"
    )


def _table(label: str, entries: list[ZooEntry]) -> str:
    titles = "".join(f'<th role="columnheader" scope="col">{title}</th>' for title in COLUMNS)
    rows = "".join(_row(entry) for entry in entries)
    return (
        f'<table role="table" aria-label="{html.escape(label)}"><thead role="rowgroup">'
        f'<tr role="row">{titles}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>'
    )


def _row(entry: ZooEntry) -> str:
    cells = "".join(
        f'<td role="cell" data-title="{title}"><div>{content(entry)}</div></td>'
        for title, content in COLUMNS.items()
    )
    state = "" if entry.is_here else ' class="absent"'
    return f'<tr role="row"{state}>{cells}</tr>'


def _name(entry: ZooEntry) -> str:
    name = re.sub(r"([._])", r"\1<wbr>", html.escape(entry.name))
    return f"<strong>{name}</strong><small>{html.escape(entry.help)}</small>"


def _availability(entry: ZooEntry) -> str:
    """A button where the file is here, else how to get it."""
    if not entry.is_here:
        return f"<small>{linked(entry.how_to_get)}</small>"
    name = html.escape(entry.name)
    return (
        f'here <button type="button" data-backbone="{name}" '
        f'aria-label="Compare with {name}">Compare with it</button>'
    )


def _published(entry: ZooEntry) -> str:
    """What its authors measured, and in which feature space where that is not the network's own."""
    told = [] if entry.top1 is None else [f"top-1 {entry.top1:g} %"]
    told += [_figures(figures) for figures in entry.published]
    if entry.published and entry.space != "logit":
        told.append(f"published numbers: space {entry.space}")
    return "<br>".join(told) or "none"


def _figures(figures: Published) -> str:
    given = {"MaxBoxAcc": figures.max_box_acc, "MaxBoxAccV2": figures.max_box_acc_v2}
    numbers = ", ".join(f"{name} {value:g}" for name, value in given.items() if value is not None)
    title, data = find_panel(figures.method).title, html.escape(figures.dataset)
    return f"{link(figures.source, title)} on {data}: {numbers}"


def _page(entry: ZooEntry) -> str:
    return link(entry.page, _page_title(entry))


def _page_title(entry: ZooEntry) -> str:
    address = urlsplit(entry.page)
    return address.path.rstrip("/").rpartition("/")[2] or address.netloc


def _size(entry: ZooEntry) -> str:
    return "×".join(map(str, reversed(input_size(entry))))


COLUMNS: dict[str, Callable[[ZooEntry], str]] = {
    "Name": _name,
    "Backbone": lambda entry: html.escape(entry.backbone),
    "Classes": lambda entry: f"{entry.num_classes} of {entry.classes}",
    "Input": _size,
    "Space": lambda entry: entry.space,
    "Licence": lambda entry: html.escape(entry.licence or "none stated"),
    "Page": _page,
    "Published": _published,
    "On this server": _availability,
}
"""Column titles and what stands in them, as HTML."""


def choose(chosen: list[str], event: gr.EventData) -> tuple[Any, list[str]]:
    """Open Compare with one more backbone; without room for it, stay and say so."""
    name = str(event.backbone)
    more = add_backbone(name, chosen)
    return gr.Tabs(selected=COMPARE) if name in more else gr.skip(), more


def build_zoo_tab(
    demo: gr.Blocks, tabs: gr.Tabs, compare_tab: CompareTab, *, uploads: bool
) -> None:
    """Lay out the tab and wire it.

    Args:
        demo: the page.
        tabs: all tabs.
        compare_tab: where checkpoints are compared.
        uploads: whether visitors may send weights files.
    """
    gr.Markdown(introduction(uploads=uploads), elem_id="zoo-introduction")
    tables = gr.HTML(
        zoo_html(),
        css_template=(ASSETS / "zoo.css").read_text(encoding="utf-8"),
        js_on_load=(ASSETS / "zoo.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="zoo",
    )
    # Files come while the server runs.
    demo.load(zoo_html, None, tables, show_progress="hidden", api_visibility="private")
    backbones = compare_tab.controls.backbones
    tables.click(choose, backbones, [tabs, backbones], api_visibility="private").success(
        **compare_tab.explaining
    )
