"""What the ERF tab is asked to measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from wsolviz.backends.uploads import is_upload
from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.dataset import open_dataset, splits_of
from wsolviz.fields.photos import (
    EXAMPLES,
    EXAMPLES_NAME,
    NamedPhoto,
    choose_of_set,
    choose_photos,
    tell_fewer,
)
from wsolviz.fields.request import FieldRequest, WeightsKind
from wsolviz.ui.backbones import check_allowed
from wsolviz.ui.controls import SIZE_LABEL, read_side
from wsolviz.ui.data_roots import allowed_splits, datasets

BUNDLED, OWN = "examples", "own"  # where photos come from, beside data sets
MAX_SIDE = DEFAULTS.erf_size  # pixels; for more there is the command line
MAX_PHOTOS = DEFAULTS.erf_images
NUMBER_LABEL, CHOICE_LABEL = "Photos", "Choice of photos"


def photo_sources() -> list[tuple[str, str]]:
    """Where photos may come from: (label, value)."""
    own = [("the example photos", BUNDLED), ("photos of your own", OWN)]
    return [*own, *((name, name) for name in allowed_splits())]


def read_field_question(
    backbones: Sequence[str],
    weights: Sequence[str],
    size: float | None,
    source: str,
    sent: Sequence[str] | None,
    number: float | None,
    seed: float | None,
) -> FieldRequest:
    """The controls' values as a request.

    Raises:
        ValueError: what cannot be measured; the message names the field.
        FileNotFoundError: files of a data set that are not there.
    """
    if not backbones or not weights:
        raise ValueError("Choose at least one backbone, and trained or random weights.")
    if len(backbones) > DEFAULTS.max_backbones:
        raise ValueError(f"At most {DEFAULTS.max_backbones} backbones are measured at once.")
    for name in backbones:
        check_allowed(name)
        if is_upload(name):  # fields are kept for everyone, under the network's name
            raise ValueError("A file that was sent can be compared, and not be measured here.")
    if size is None:
        raise ValueError(f"{SIZE_LABEL}: write the side in pixels, such as 224.")
    return FieldRequest(
        backbones=tuple(backbones),
        photos=_photos(source, sent or (), number, seed),
        size=read_side(f"{size:.10g}", SIZE_LABEL, MAX_SIDE),
        weights=cast(tuple[WeightsKind, ...], tuple(weights)),
    )


def note_on_photos(asked: FieldRequest, source: str, number: float | None) -> str:
    """A sentence where the chosen source holds fewer photos than were asked for; else empty."""
    if source == OWN or number is None:
        return ""
    where = EXAMPLES_NAME if source == BUNDLED else source
    return tell_fewer(int(number), len(asked.photos), where)


def _photos(
    source: str, sent: Sequence[str], number: float | None, seed: float | None
) -> tuple[NamedPhoto, ...]:
    if source == OWN:
        if not sent:
            raise ValueError("Send at least one photo of your own, or take the example photos.")
        if len(sent) > MAX_PHOTOS:
            raise ValueError(f"{len(sent)} photos were sent; at most {MAX_PHOTOS} are measured.")
        return tuple(NamedPhoto(Path(path).name, Path(path)) for path in sent)
    count = _whole(number, NUMBER_LABEL, 1, MAX_PHOTOS)
    choice = _whole(seed, CHOICE_LABEL, 0, 999_999)
    if source == BUNDLED:
        return choose_photos(EXAMPLES, count, choice)
    name, _, split = source.rpartition("/")
    # A name from outside must not lead out of the allowed folders.
    if name not in datasets or split not in splits_of(datasets[name]):
        raise ValueError(f"There is no data set {source!r}; choose one of the list.")
    return choose_of_set(open_dataset(datasets[name], split), count, choice)


def _whole(number: float | None, label: str, least: int, most: int) -> int:
    if number is None or number != int(number) or not least <= number <= most:
        raise ValueError(f"{label}: write a whole number from {least} to {most}.")
    return int(number)
