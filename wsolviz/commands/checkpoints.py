"""python -m wsolviz zoo check | convert: whether checkpoint files are right, and our own format."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import torch
import typer

from wsolviz.backends import convert as conversion
from wsolviz.backends.checkpoints import sha256_of
from wsolviz.backends.identify import identify
from wsolviz.backends.loading import LoadRequest, pick_device
from wsolviz.backends.zoo import ZOO, ZooEntry, entry_of
from wsolviz.backends.zoo_backbones import load_entry
from wsolviz.commands.messages import say


def check(
    name: Annotated[
        str | None,
        typer.Argument(help="A name of zoo list, or a file; default: all whose file is here."),
    ] = None,
) -> None:
    """Check hashes and that the files load whole, or say what a file is."""
    if name is not None and name not in ZOO:
        if not Path(name).exists():
            raise FileNotFoundError(_neither(name))
        say(_describe(Path(name)))
        return
    entries = [e for e in ZOO.values() if e.is_here] if name is None else [ZOO[name]]
    failed = 0
    for entry in entries:
        try:
            say(f"{entry.name}: {_check(entry)}")
        except (ValueError, OSError) as error:
            say(f"{entry.name}: {error}", style="red")
            failed += 1
    if name is None:
        say(f"{len(entries)} of {len(ZOO)} checkpoints are here, {failed} of them not right")
    raise typer.Exit(1 if failed else 0)


def convert(
    path: Annotated[Path, typer.Argument(metavar="IN", help="Any checkpoint.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .safetensors file.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option("--as", help="The zoo entry or backbone it is for, if it does not show."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite OUT.")] = False,
) -> None:
    """Turn a checkpoint into this project's own format, which says itself what it is."""
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; choose another name, or use --force.")
    header = conversion.convert(path, out, name)
    say(
        f"{out} holds {header.backbone} with {header.num_classes} classes: "
        f"load_backbone('file/{out}'), or --backbone file/{out}"
    )


def _neither(name: str) -> str:
    """That a name is neither a file's nor an entry's; the closest entry, for a slip of the pen."""
    close = difflib.get_close_matches(name, ZOO, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"There is no file {name}, and the zoo has no checkpoint of that name.{hint} "
        "python -m wsolviz zoo list tells its names."
    )


def _check(entry: ZooEntry) -> str:
    """Load a checkpoint as its entry says; what was found, in a few words.

    Raises:
        ValueError: another file, or one that does not fit.
        FileNotFoundError: no file.
    """
    request = LoadRequest(entry.name, "default", None, pick_device("cpu"), None, torch.float32)
    backbone = load_entry(entry, request)
    published = "as published" if entry.sha256 else "none published to compare with"
    return (
        f"loads whole, {backbone.num_classes} classes, "
        f"CAM is {'exact' if backbone.exact else f'not exact: {backbone.inexactness}'}, "
        f"SHA-256 {sha256_of(entry.path)} ({published})"
    )


def _describe(path: Path) -> str:
    """What a file is, in a few words.

    Raises:
        ValueError: no checkpoint, or one that fits no network.
    """
    found = identify(path)
    entry = entry_of(path)
    return (
        f"{path}: {found.form}, {' or '.join(found.backbones)} with {found.num_classes} classes, "
        f"SHA-256 {found.sha256}" + (f", in the zoo as {entry.name}" if entry else "")
    )
