"""A run's state on disk: written whole or not at all, and enough to go on to the same numbers."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from training.record.files import whole
from wsolviz.export import versions

ROOT = Path(__file__).resolve().parent.parent


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a state; a kill or a full disk leaves the file that was there before.

    Raises:
        OSError: it cannot be written; names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as file:
        torch.save(dict(state), file)


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, on the CPU; None where nothing was. Nothing in it is run."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def refuse_others(kept: str, asked: str, folder: Path) -> None:
    """Refuse to go on with a run that was begun with another configuration.

    Args:
        kept: the configuration that the folder's run was begun with, as `dump_config` gives it.
        asked: the one that is asked for.
        folder: of the run.

    Raises:
        ValueError: they differ; names the lines.
    """
    changed = [
        line for line in difflib.ndiff(kept.splitlines(), asked.splitlines()) if line[0] in "+-"
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with another configuration: {'; '.join(changed[:6])}. Give the "
            "run another name, or begin anew with --force."
        )


@cache
def provenance() -> dict[str, Any]:
    """Versions of the packages and the commit that the code stands at."""
    return {"versions": versions(), "git_commit": _git_commit()}


def _git_commit() -> str | None:
    """The commit's hash, with "+" behind it where files were changed since; None without git."""
    try:
        found = [
            subprocess.run(
                ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0] + ("+" if found[1] else "")
