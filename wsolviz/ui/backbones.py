"""Which backbones the page offers, which are not here yet, and which no visitor may name."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

import gradio as gr

from wsolviz.backends.loading import BACKBONES, FILE_FAMILY, family_of
from wsolviz.backends.uploads import title_of
from wsolviz.defaults import DEFAULTS

NO_PATHS = (
    "Files of this server cannot be named. Choose a backbone of the list or a timm model; a file "
    "of your own can be sent where the owner of the server allows it."
)


def check_allowed(name: str) -> None:
    """Refuse a backbone's name that leads to a file of the server.

    Everything that a visitor names passes here: controls, address, endpoints, both tabs.

    Raises:
        ValueError: such a name.
    """
    if family_of(name.strip()) == FILE_FAMILY:
        raise ValueError(NO_PATHS)


def backbones_here() -> list[str]:
    """Backbones with a name of their own that can be used now."""
    return [n for n, entry in BACKBONES.items() if not entry.is_family and not entry.missing()]


def backbone_menu(uploads: Iterable[str] = ()) -> list[tuple[str, str]]:
    """What the backbones' menu offers: (label, name).

    Args:
        uploads: names of the files that this visitor sent.
    """
    return [(title_of(name), name) for name in (*backbones_here(), *uploads)]


def backbone_choice(info: str, elem_id: str) -> gr.Dropdown:
    """The menu as a tab lays it out, the usual backbones chosen."""
    return gr.Dropdown(
        backbone_menu(),
        value=list(DEFAULTS.backbones),
        multiselect=True,
        max_choices=DEFAULTS.max_backbones,
        allow_custom_value=True,
        label="Backbones",
        info=info,
        elem_id=elem_id,
    )


def menu_with(chosen: Iterable[str], uploads: Iterable[str] = ()) -> Any:
    """An update of the menu: what it offers now, and what is chosen in it."""
    return gr.Dropdown(
        choices=backbone_menu(uploads),
        value=list(chosen),
        multiselect=True,
        allow_custom_value=True,
    )


def add_backbone(name: str, chosen: list[str]) -> list[str]:
    """The chosen backbones with one more, or a warning where there is no room for it."""
    if name in chosen:
        return chosen
    if len(chosen) >= DEFAULTS.max_backbones:
        gr.Warning(f"At most {DEFAULTS.max_backbones} backbones; take one away first.")
        return chosen
    return [*chosen, name]


def absent_backbones() -> dict[str, list[str]]:
    """What would make backbones usable that are not here, and the backbones: sentence to names."""
    absent: dict[str, list[str]] = {}
    for name, entry in BACKBONES.items():
        line = "" if entry.is_family else entry.missing()
        if line:
            absent.setdefault(line, []).append(name)
    return absent


def absent_list() -> str:
    """The backbones that are not here, greyed out under a fold, each with what to do, as HTML.

    The boxes are disabled for everyone in the same way: `aria-disabled` and not `disabled`, which
    would take them out of the keyboard's reach. Nothing listens to them.
    """
    absent = absent_backbones()
    if not absent:
        return ""
    items = "".join(
        _absent_item(number, names, line) for number, (line, names) in enumerate(absent.items())
    )
    count = sum(map(len, absent.values()))
    return f"<details><summary>Not here yet ({count})</summary><ul>{items}</ul></details>"


def _absent_item(number: int, names: list[str], line: str) -> str:
    return (
        f'<li><span role="checkbox" aria-checked="false" aria-disabled="true" tabindex="0" '
        f'aria-describedby="absent-{number}">{html.escape(", ".join(names))}</span>'
        f'<small id="absent-{number}">{linked(line)}</small></li>'
    )


def link(address: str, text: str) -> str:
    """A link that opens beside the page, as HTML."""
    where = html.escape(address)
    return f'<a href="{where}" target="_blank" rel="noopener">{html.escape(text)}</a>'


def linked(sentence: str) -> str:
    """A sentence as HTML whose addresses can be followed.

    >>> linked("It is 1 < 2.")
    'It is 1 &lt; 2.'
    """
    parts = re.split(r"(https://[^\s)]*[^\s).,])", sentence)
    return "".join(link(p, p) if i % 2 else html.escape(p) for i, p in enumerate(parts))
