"""Registries: the only lists of methods, pictures and backbones that the project holds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


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
    """What stands behind an unknown name in an error: the closest known one, then all.

    >>> alternatives("aple", ["apple", "pear"])
    " Did you mean 'apple'? Known: apple, pear."
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known)}."
