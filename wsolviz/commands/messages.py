"""What commands tell people: on the error stream, so that the output stream is left to results."""

from __future__ import annotations

from rich.console import Console

messages = Console(stderr=True)
results = Console()


def say(text: str, style: str | None = None) -> None:
    """One line on the terminal, as it is: a file's name may look like markup."""
    messages.print(text, style=style, highlight=False, soft_wrap=True, markup=False)
