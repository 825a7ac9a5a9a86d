"""The command line: python -m wsolviz app | explain."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wsolviz.backends.loading import BACKBONES
from wsolviz.compare import CompareOptions, CompareRequest, compare
from wsolviz.defaults import DEFAULTS
from wsolviz.export import write_folder
from wsolviz.methods import METHODS, PICTURES, is_panel
from wsolviz.photo import SUFFIXES
from wsolviz.render import Look
from wsolviz.types import Contours, Precision, Space

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What an image classifier localizes, and why.",
)
_messages = Console(stderr=True)


@cli.callback()
def _commands() -> None:
    """What an image classifier localizes, and why."""


@cli.command()
def app(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 7860 on.")] = None,
) -> None:
    """Serve the app."""
    from wsolviz.ui.app import launch  # noqa: PLC0415  (gradio takes seconds to import)

    launch(host=host, port=port)


@cli.command()
def explain(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    backbone: Annotated[
        list[str], typer.Option(help="Names, one or several: efficientnet_lite0, timm/resnet50 …")
    ] = DEFAULTS.backbones,  # type: ignore[assignment]
    method: Annotated[
        list[str], typer.Option(help=f"One or several of {', '.join([*METHODS, *PICTURES])}.")
    ] = DEFAULTS.methods,  # type: ignore[assignment]
    class_choice: Annotated[
        str | None, typer.Option("--class", help="Index or name; default: each backbone's top-1.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="cam_threshold.")] = DEFAULTS.cam_threshold,
    contours: Annotated[Contours, typer.Option(help="Boxes of which contours.")] = (
        DEFAULTS.contours
    ),
    space: Annotated[Space, typer.Option(help="Feature space.")] = DEFAULTS.space,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input.")] = None,
    scales: Annotated[
        list[int] | None, typer.Option(help="Several such sides, whose maps are averaged.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored photo.")] = False,
    output_stride: Annotated[int | None, typer.Option(help="Finer maps where offered.")] = None,
    precision: Annotated[Precision, typer.Option(help="Of the forward pass.")] = (
        DEFAULTS.precision
    ),
    force: Annotated[bool, typer.Option(help="Overwrite results.")] = False,
) -> None:
    """Explain photos: for each a folder with PNGs, NPZ, manifest and an offline HTML report."""
    request = CompareRequest(
        tuple(backbone),
        tuple(method),
        class_choice,
        CompareOptions(space, image_size, output_stride, precision, tuple(scales or ()), flip),
    )
    look = Look(cam_threshold=threshold, contours=contours)
    folders = output_folders(photos, out)
    refuse_to_overwrite(folders.values(), force)
    for name in request.backbones:
        request.options.load(name)
    failures = _explain_all(folders, request, look, force)
    for path, reason in failures.items():
        _messages.print(
            f"wsolviz: {path}: {reason}", style="red", highlight=False, soft_wrap=True, markup=False
        )
    _messages.print(
        f"{len(folders) - len(failures)} of {len(folders)} photos explained in {out}", markup=False
    )
    raise typer.Exit(1 if failures else 0)


def _say(text: str, style: str | None = None) -> None:
    """One line on the terminal, as it is: a file's name may look like markup."""
    _messages.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def _explain_all(
    folders: dict[Path, Path], request: CompareRequest, look: Look, force: bool
) -> dict[Path, str]:
    """Explain every photo; returns the reason for each that could not be read or explained."""
    failures = {}
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_messages) as bar:
        task = bar.add_task("explaining", total=len(folders))
        for path, folder in folders.items():
            try:
                comparison = compare(
                    path, request, lambda _, text: bar.update(task, description=text)
                )
                refused = [row.failure for row in comparison.rows if row.failure]
                if refused:
                    raise ValueError(refused[0])
                write_folder(comparison, look, folder, force=force)
            except (ValueError, OSError) as error:
                failures[path] = str(error)
            bar.advance(task)
    return failures


def output_folders(photos: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where the results of each photo go: a folder of its name; folders keep their layout.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a folder that holds no photo.
    """
    relative: dict[Path, Path] = {}
    for path in photos:
        if path.is_dir():
            found = sorted(p for p in _files_in(path, skip=out) if p.suffix.lower() in SUFFIXES)
            if not found:
                raise ValueError(f"{path} holds no photo ({', '.join(sorted(SUFFIXES))}).")
            relative |= {p: p.relative_to(path) for p in found}
        elif path.is_file():
            relative[path] = Path(path.name)
        else:
            raise FileNotFoundError(f"There is no photo or folder {path}.")
    stems = Counter(p.with_suffix("") for p in relative.values())
    results = {
        path: out / (name if stems[name.with_suffix("")] > 1 else name.with_suffix(""))
        for path, name in relative.items()
    }
    uses = Counter(results.values())
    clashing = [str(path) for path, result in results.items() if uses[result] > 1]
    if clashing:
        raise ValueError(
            f"{' and '.join(clashing[:2])} would leave their results in the same folder; explain "
            "them in two runs with different --out."
        )
    return results


def _files_in(folder: Path, skip: Path) -> Iterator[Path]:
    """Every file below a folder but those of an earlier run's results.

    Raises:
        OSError: a folder that may not be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        here = Path(root)
        folders[:] = [name for name in folders if (here / name).resolve() != skip.resolve()]
        yield from (here / name for name in names)


def refuse_to_overwrite(folders: Iterable[Path], force: bool) -> None:
    """Fail before the work begins where a result is there already.

    Raises:
        FileExistsError: a folder that holds something, and `force` is False.
    """
    taken = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    if taken and not force:
        raise FileExistsError(
            f"{taken[0]} holds results already; choose another --out, or overwrite with --force."
        )


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """Let `--method cam pc1` and `--method cam,pc1` mean `--method cam --method pc1`.

    Only known names are taken as further values, so that a photo may follow.

    >>> spread_lists(["--method", "cam", "pc1", "a.jpg", "--out", "x"])
    ['--method', 'cam', '--method', 'pc1', 'a.jpg', '--out', 'x']
    """
    known: dict[str, Callable[[str], bool]] = {
        "--method": is_panel,
        "--scales": str.isdecimal,
        "--backbone": lambda name: name in BACKBONES or f"{name.partition('/')[0]}/" in BACKBONES,
    }
    spread: list[str] = []
    option = ""
    first = False
    for argument in arguments:
        if argument in known:
            option, first = argument, True
            continue
        if option and (first or known[option](argument.partition(",")[0])):
            for name in argument.split(","):
                spread += [option, name]
            first = False
            continue
        option = ""
        spread.append(argument)
    return [*spread, option] if first else spread


def main() -> None:
    """Run the command line; what a user did wrong is one line and exit status 2."""
    try:
        status = cli(
            spread_lists(sys.argv[1:]), prog_name="python -m wsolviz", standalone_mode=False
        )
    except typer.Abort:
        raise SystemExit(130) from None
    except Exception as error:
        message = _message_for_users(error)
        if message is None:
            raise
        _say(f"wsolviz: {message}", style="red")
        raise SystemExit(2) from None
    raise SystemExit(status or 0)


def _message_for_users(error: Exception) -> str | None:
    """What to say about a user's mistake; None where the mistake is ours."""
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    # Typer's own complaints about arguments: the class stands in another module in each version.
    tell = getattr(error, "format_message", None)
    return None if tell is None else str(tell())
