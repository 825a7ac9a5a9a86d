"""The line below the buttons that says what was done, or what is wrong."""

from __future__ import annotations

import html

from pydantic import ValidationError

from wsolviz.errors import public_text


def say(*lines: str, problem: bool = False) -> str:
    """Sentences as HTML for the status line; what users typed cannot become markup.

    >>> say("No class '<img src=x>'.", problem=True)
    '<p role="status" class="problem">No class &#x27;&lt;img src=x&gt;&#x27;.</p>'
    """
    kind = ' class="problem"' if problem else ""
    return f'<p role="status"{kind}>{"<br>".join(map(html.escape, lines))}</p>'


def plain_message(error: Exception) -> str:
    """An error as a sentence; of a list of wrong fields the first."""
    if isinstance(error, ValidationError):
        place = error.errors()[0]["loc"]
        return f"{place[0] if place else 'The input'}: {reason(error)}"
    return reason(error)


def reason(error: Exception) -> str:
    """Why something is wrong; of a list of wrong fields the first, without its name.

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(int).validate_python("seven")
    ... except ValidationError as error:
    ...     reason(error)
    "'seven' should be a valid integer, unable to parse string as an integer."
    """
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{first['msg']}.".replace("Input", repr(first["input"]), 1)
    return public_text(error)
