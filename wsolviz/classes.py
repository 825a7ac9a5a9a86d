"""Finding a class by what a person types."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TypeAlias

ClassChoice: TypeAlias = int | str | None


def find_class(chosen: int | str, num_classes: int, class_names: Sequence[str]) -> int:
    """The index of a class given as an index or a name.

    A name is matched without regard to case: the whole name, or one of its synonyms, or else the
    only class in which it occurs.

    Args:
        chosen: 281, "281", "tabby cat" or "tabby".
        num_classes: K.
        class_names: K names, or none.

    Raises:
        ValueError: no such class, or several; the message lists those that come near.

    >>> names = ["tench, Tinca tinca", "goldfish", "great white shark", "tiger shark"]
    >>> find_class("Tinca tinca", 4, names), find_class("tiger", 4, names), find_class("1", 4, [])
    (0, 3, 1)
    >>> find_class("shark", 4, names)
    Traceback (most recent call last):
    ValueError: 'shark' occurs in 2 classes: 2 great white shark; 3 tiger shark. Give one's index.
    """
    text = str(chosen).strip()
    if not text:
        raise ValueError("The class is empty; give a name or an index, or leave it out.")
    if re.fullmatch(r"-?[0-9]+", text):
        index = int(text)
        if not 0 <= index < num_classes:
            raise ValueError(
                f"class {index} is outside the network's {num_classes} classes; "
                f"allowed are 0 to {num_classes - 1}."
            )
        return index
    if not class_names:
        raise ValueError(
            f"The classes of this backbone have no names, so {text!r} cannot be found; "
            f"give an index from 0 to {num_classes - 1}."
        )
    return _find_name(text, class_names)


def _find_name(text: str, class_names: Sequence[str]) -> int:
    wanted = text.casefold()
    lowered = [name.casefold() for name in class_names]
    for candidates in (
        [i for i, name in enumerate(lowered) if name == wanted],
        [i for i, name in enumerate(lowered) if wanted in name.split(", ")],
        [i for i, name in enumerate(lowered) if wanted in name],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            listed = "; ".join(f"{i} {class_names[i]}" for i in candidates[:5])
            more = " …" if len(candidates) > 5 else ""
            raise ValueError(
                f"{text!r} occurs in {len(candidates)} classes: {listed}{more}. Give one's index."
            )
    words = {synonym: name for name in class_names for synonym in name.split(", ")}
    close = difflib.get_close_matches(text, words, n=3)
    hint = f" Near it: {', '.join(close)}." if close else ""
    raise ValueError(f"There is no class {text!r}.{hint} Give a name or an index.")
