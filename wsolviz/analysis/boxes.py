"""Boxes at every level (being written)."""

from __future__ import annotations


class LevelBoxes: ...
