"""The command line: python -m wsolviz app | explain | erf | evaluate | zoo."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from wsolviz.backends.loading import BACKBONES
from wsolviz.commands.erf import erf
from wsolviz.commands.evaluate import evaluate
from wsolviz.commands.explain import explain
from wsolviz.commands.messages import say
from wsolviz.commands.zoo import zoo
from wsolviz.methods import is_panel

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What an image classifier localizes, and why.",
)
cli.command()(explain)
cli.command()(erf)
cli.command()(evaluate)
cli.add_typer(zoo, name="zoo")


@cli.callback()
def _commands() -> None:
    """What an image classifier localizes, and why."""


@cli.command()
def app(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; default: the first free one from 7860 on."),
    ] = None,
    data_root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose data sets may be measured in the page; again for more."),
    ] = None,
    allow_upload_weights: Annotated[
        bool,
        typer.Option(
            "--allow-upload-weights",
            help="Let visitors send .safetensors files of their own.",
        ),
    ] = False,
) -> None:
    """Serve the app."""
    from wsolviz.ui.app import launch  # noqa: PLC0415  (gradio takes seconds to import)

    launch(
        host=host,
        port=port,
        data_roots=data_root or None,
        allow_upload_weights=allow_upload_weights or None,
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
    """Run the command line."""
    run_command(cli, spread_lists(sys.argv[1:]), "python -m wsolviz")


def run_command(command: typer.Typer, arguments: Sequence[str], prog_name: str) -> NoReturn:
    """Run a command line and exit; what a user did wrong is one line and exit status 2."""
    try:
        status = command(list(arguments), prog_name=prog_name, standalone_mode=False)
    except typer.Abort:
        raise SystemExit(130) from None
    except Exception as error:
        message = _message_for_users(error)
        if message is None:
            raise
        if message:  # the help of a bare command was shown already
            say(f"{prog_name.rpartition(' ')[2]}: {message}", style="red")
        raise SystemExit(2) from None
    raise SystemExit(status or 0)


def _message_for_users(error: Exception) -> str | None:
    """What to say about a user's mistake; None where the mistake is ours."""
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    # Typer's own complaints about arguments: the class stands in another module in each version.
    tell = getattr(error, "format_message", None)
    return None if tell is None else str(tell())
