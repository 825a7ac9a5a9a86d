"""How far a measurement of receptive fields is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Step:
    """How far a measurement is.

    Attributes:
        network: whose turn it is, as in `FieldRow.label`.
        row: its place among the networks, from 0.
        num_rows: networks in all.
        done: photos of this network that are done.
        num_photos: photos of each network.
        speed: photos a second of this network in this run; None before the first one.
        num_broken: photos that could not be read.
        loading: whether the network is still being loaded.
    """

    network: str
    row: int
    num_rows: int
    done: int
    num_photos: int
    speed: float | None = None
    num_broken: int = 0
    loading: bool = False

    @property
    def share(self) -> float:
        """Of all the work, in [0,1]."""
        return (self.row + self.done / self.num_photos) / self.num_rows

    @property
    def pace(self) -> str:
        """The speed in words, to two digits; empty before the first photo."""
        return "" if self.speed is None else f"{float(f'{self.speed:.2g}'):.10g} photos/s"

    @property
    def text(self) -> str:
        """What is being done, in a few words."""
        if self.loading:
            return f"{self.network}: loading"
        told = f"{self.network}: photo {self.done} of {self.num_photos}"
        return f"{told}, {self.pace}" if self.pace else told


OnStep: TypeAlias = Callable[[Step], None]


def ignore_step(step: Step) -> None:
    """Take no notice."""
