"""A cache bounded by bytes, in which each value is made once however many threads ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteBoundedCache(Generic[Value]):
    """Least recently used values go first when the bytes exceed the bound.

    The newest value always stays, even where it alone exceeds the bound, so that a large network
    can be used at all.

    >>> cache = ByteBoundedCache(max_bytes=2, size_of=len)
    >>> [cache.get(word, str.upper) for word in ("a", "b", "a", "c")]
    ['A', 'B', 'A', 'C']
    >>> "b" in cache, "a" in cache
    (False, True)
    """

    def __init__(
        self,
        max_bytes: int,
        size_of: Callable[[Value], int],
        on_eviction: Callable[[Value], object] = lambda _: None,
    ) -> None:
        self.max_bytes = max_bytes
        self._size_of = size_of
        self._on_eviction = on_eviction
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[..., Value]) -> Value:
        """The value of a key; `make(key)` is called once where it is not there yet.

        What `make` raises goes through and nothing is kept.
        """
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key][0]
            try:
                value = make(key)
            except BaseException:
                with self._lock:
                    self._making.pop(key, None)
                raise
            self._keep(key, value)
            return value

    def recount(self, value: Value) -> None:
        """Take the size of a value that has grown anew; nothing happens if it is not kept."""
        with self._lock:
            key = next((k for k, (kept, _) in self._values.items() if kept is value), None)
            if key is not None:
                self._values[key] = (value, self._size_of(value))
        self._evict()

    def _keep(self, key: Hashable, value: Value) -> None:
        size = self._size_of(value)
        with self._lock:
            self._values[key] = (value, size)
        self._evict()

    def _evict(self) -> None:
        evicted = []
        with self._lock:
            total = sum(size for _, size in self._values.values())
            while total > self.max_bytes and len(self._values) > 1:
                oldest, (old, size) = self._values.popitem(last=False)
                self._making.pop(oldest, None)
                evicted.append(old)
                total -= size
        for old in evicted:
            self._on_eviction(old)

    def discard(self, unwanted: Callable[[Value], bool]) -> None:
        """Forget the values for which a condition holds."""
        with self._lock:
            for key in [k for k, (value, _) in self._values.items() if unwanted(value)]:
                del self._values[key]
                self._making.pop(key, None)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._values

    def clear(self) -> None:
        """Forget every value."""
        with self._lock:
            self._values.clear()
            self._making.clear()
