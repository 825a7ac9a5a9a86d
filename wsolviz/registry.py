"""Registries: the only lists of methods, pictures and backbones that the project holds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

Entry = TypeVar("Entry")

# Of more names than this an error tells the nearest only; nobody reads sixty.
MOST_NAMED, NEAREST = 24, 6


class UnknownNameError(ValueError, KeyError):
    """A name that a registry does not hold; says which names it does hold."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Names in the order of registration; an unknown name is an error that names the alternatives.

    >>> fruits = Registry[int]("fruit")
    >>> fruits.register("apple", 1)
    1
    >>> fruits["aple"]
    Traceback (most recent call last):
    wsolviz.registry.UnknownNameError: There is no fruit 'aple'. Did you mean 'apple'? Known: apple.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry) -> Entry:
        """Add an entry under a name that is not taken yet, and return it."""
        assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            message = f"There is no {self.kind} {name!r}.{alternatives(name, self._entries)}"
            raise UnknownNameError(message) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def alternatives(name: object, known: Iterable[str]) -> str:
    """What stands behind an unknown name in an error: the closest known one, then all, if few.

    >>> alternatives("aple", ["apple", "pear"])
    " Did you mean 'apple'? Known: apple, pear."
    >>> alternatives("x7", [f"x{number}y" for number in range(100)])
    " Did you mean 'x7y'? Known: x7y, x70y, x71y, x72y, x73y, x74y and 94 more."
    """
    known, given = list(known), str(name)
    nearest = sorted(known, key=lambda other: _distance(given, other))
    close = difflib.get_close_matches(given, known, n=1) or [n for n in nearest[:1] if given in n]
    hint = f" Did you mean {close[0]!r}?" if close and given else ""
    if len(known) <= MOST_NAMED:
        return f"{hint} Known: {', '.join(known)}."
    return f"{hint} Known: {', '.join(nearest[:NEAREST])} and {len(known) - NEAREST} more."


def _distance(given: str, other: str) -> tuple[bool, float]:
    """Names that hold the given one come first, and then by how much is alike."""
    return given not in other, -difflib.SequenceMatcher(None, given, other).ratio()
