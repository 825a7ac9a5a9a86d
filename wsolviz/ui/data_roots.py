"""Which data sets the app may read: those that its owner named at the start, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wsolviz.evaluation.dataset import splits_of

VARIABLE = "WSOLVIZ_DATA_ROOTS"  # folders, separated as in PATH: for a Space, which has no command

datasets: dict[str, Path] = {}
"""The data sets that may be read, by name; filled when the Evaluate tab is built."""


def roots_of_environment() -> list[Path]:
    """The folders that the environment names."""
    return [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def allowed_splits() -> list[str]:
    """What may be measured, as NAME/SPLIT."""
    return [f"{name}/{split}" for name, root in datasets.items() for split in splits_of(root)]


def find_datasets(roots: Iterable[Path]) -> dict[str, Path]:
    """Data sets by name: each root that is one, or else the folders in it that are.

    Raises:
        FileNotFoundError: a root that does not exist.
        ValueError: a root that neither is nor holds a data set, or two data sets of one name.
    """
    found: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"There is no data folder {root}.")
        candidates = [root] if splits_of(root) else sorted(p for p in root.iterdir() if p.is_dir())
        datasets = [folder for folder in candidates if splits_of(folder)]
        if not datasets:
            raise ValueError(
                f"{root} neither is nor holds a data set: no metadata/SPLIT/localization.txt."
            )
        for folder in datasets:
            name = folder.resolve().name
            if found.get(name, folder).resolve() != folder.resolve():
                raise ValueError(f"{found[name]} and {folder} have the same name; rename one.")
            found[name] = folder
    return found
