"""What a comparison hands to the page."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from wsolviz.backends.uploads import is_upload, title_of
from wsolviz.compare import Comparison, compare
from wsolviz.progress import Progress
from wsolviz.render import Look
from wsolviz.ui.address import LOOK, Choices
from wsolviz.ui.controls import class_choices
from wsolviz.ui.status import say
from wsolviz.ui.viewer import JSON, viewer_payload
from wsolviz.zero_gpu import on_gpu


@dataclass(frozen=True)
class Answer:
    """What one run hands to the page: plain values, which pass between processes on ZeroGPU.

    Attributes:
        payload: see `show`.
        classes: the class menu, (label, value).
        status: one line on what was done.
    """

    payload: JSON
    classes: list[tuple[str, str]]
    status: str


@on_gpu
def answer(photo: str, choices: Choices, look: Look, progress: Progress) -> Answer:
    """Compute the grid and all that the page shows of it.

    Raises:
        ValueError: a photo that cannot be read, or choices with which no backbone gives a row.
    """
    start = time.perf_counter()
    comparison = compare(photo, choices.request(), progress)
    if comparison.is_empty:
        raise ValueError(" ".join(comparison.notices))
    return _answer(comparison, choices, look, time.perf_counter() - start)


@on_gpu
def answer_address(photo: str, choices: Choices) -> tuple[Answer, Choices, list[str]]:
    """As `answer`, but parts of the choices with which nothing can be shown give way.

    Returns:
        The grid, the choices that it shows, and a sentence for each part that was left out.
    """
    start = time.perf_counter()
    problems = []
    usual = Choices()
    comparison = compare(photo, choices.request())
    for name, is_to_blame in (("backbones", _no_backbone), ("class_choice", _no_class)):
        if is_to_blame(comparison) and getattr(choices, name) != getattr(usual, name):
            why = " ".join(comparison.notices)
            problems.append(f"The address's {name} was left out: {why}")
            choices = choices.model_copy(update={name: getattr(usual, name)})
            comparison = compare(photo, choices.request())
    if comparison.is_empty:
        problems.append(f"The address was left out: {' '.join(comparison.notices)}")
        choices = usual
        comparison = compare(photo, choices.request())
    shown = _answer(comparison, choices, choices.look(), time.perf_counter() - start)
    return shown, choices, problems


def _no_backbone(comparison: Comparison) -> bool:
    return all(row.inspection is None for row in comparison.rows)


def _no_class(comparison: Comparison) -> bool:
    return comparison.is_empty and not _no_backbone(comparison)


def _answer(comparison: Comparison, choices: Choices, look: Look, seconds: float) -> Answer:
    return Answer(
        show(comparison, choices, look),
        class_choices(comparison),
        describe(comparison, seconds),
    )


def show(comparison: Comparison, choices: Choices, look: Look) -> JSON:
    """The viewer's payload, and what the page's address is to say about it."""
    # The viewer keeps a true box while the photo stays; on another photo it would mean nothing.
    return {
        **viewer_payload(comparison, replace(look, true_box=None)),
        "answered": time.time(),  # so that equal results count as an answer, too
        "address": choices.without_look().query(),
        # Rows of files that were sent, of which the address is to say nothing.
        "private_rows": [title_of(name) for name in choices.backbones if is_upload(name)],
        "look_defaults": {name: getattr(Choices(), name) for name in LOOK},
    }


def show_case(comparison: Comparison, choices: Choices, look: Look) -> JSON:
    """As `show`, but the page takes the whole look over, its true box and marks included."""
    return {**show(comparison, choices, look), **viewer_payload(comparison, look), "fresh": True}


def describe(comparison: Comparison, seconds: float) -> str:
    """The status line: what was done, and what to know about the photo."""
    width, height = comparison.photo.size
    return say(
        f"{comparison.photo.name}, {width}×{height}, in {seconds:.1f} s.",
        *comparison.photo.notes,
        *comparison.notices,
        problem=bool(comparison.notices),
    )
