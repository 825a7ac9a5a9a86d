"""Fetching a file: resumed where it was cut off, checked, and never half there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TypeAlias
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from wsolviz.backends.checkpoints import sha256_of

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without an answer
TRIES = 5  # in a row that bring nothing new, after which an address is given up

Tell: TypeAlias = "Callable[[int, int | None], object]"


class CutOffError(OSError):
    """The connection ended before the file did; what came is kept."""


def fetch(url: str, target: Path, sha256: str | None = None, tell: Tell = lambda *_: None) -> str:
    """Fetch a file; what an earlier try left of it is not fetched again.

    Args:
        url: http or https.
        target: where the file is to stand once it is whole and its hash is right.
        sha256: that it must have; None if nobody published one.
        tell: called with the bytes that are here, and with the file's size where that is known.

    Returns:
        The file's SHA-256.

    Raises:
        FileNotFoundError: there is nothing at the address.
        ValueError: something else is there: another hash, or a web page.
        OSError: no network, a full disk, or another process that fetches the same file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    try:
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=0):
            _fetch_whole(url, partial, tell)
            found = sha256_of(partial)
            _origin(partial).unlink(missing_ok=True)
            if sha256 not in (None, found):
                partial.unlink()
                raise ValueError(
                    f"{url} gave a file with the SHA-256 {found} where {sha256} was expected, and "
                    "it was thrown away. Try again; if it stays so, the file there has changed."
                )
            partial.replace(target)
    except Timeout:
        raise OSError(f"Another process is fetching {target} already.") from None
    return found


def _fetch_whole(url: str, partial: Path, tell: Tell) -> None:
    """Go on until the file is whole, over as many connections as it takes."""
    tries = 0
    while tries < TRIES:
        before = _size(partial)
        try:
            _fetch_rest(url, partial, tell)
        except CutOffError:
            tries = 0 if _size(partial) > before else tries + 1
        else:
            return
    raise OSError(
        f"The connection to {url} broke off {TRIES} times in a row, with {_size(partial):,} bytes "
        "here. The same command goes on from there."
    )


def _fetch_rest(url: str, partial: Path, tell: Tell) -> None:
    """Fetch what is missing over one connection.

    Raises:
        CutOffError: the connection ended early.
        OSError: see `fetch`.
    """
    origin = _origin(partial)
    version = origin.read_text(encoding="utf-8") if origin.is_file() else ""
    here = _size(partial) if version else 0
    # The rest is sent only if the file there is still the one that the part was cut from.
    headers = {"Range": f"bytes={here}-", "If-Range": version} if here else {}
    try:
        answer: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{here}":
            return  # nothing was missing
        raise _refused(url, error) from error
    except (URLError, TimeoutError, HTTPException, ConnectionError) as error:
        raise _unreachable(url, error) from error
    with answer:
        if answer.status != 206:
            here = 0
        length = answer.headers.get("Content-Length")
        size = None if length is None else here + int(length)
        _refuse_page(url, answer)
        _require_space(partial, (size or 0) - here)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        origin.write_text(version, encoding="utf-8")
        _write(answer, partial, here, size, tell)


def _write(answer: HTTPResponse, partial: Path, here: int, size: int | None, tell: Tell) -> None:
    """Append what comes to the part, or begin it anew where `here` is 0."""
    try:
        with partial.open("ab" if here else "wb") as file:
            tell(here, size)
            while chunk := _read(answer):
                file.write(chunk)
                here += len(chunk)
                tell(here, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _full(partial.parent) from error
        raise
    if size is not None and here < size:
        raise CutOffError


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read1(CHUNK)
    except (OSError, HTTPException) as error:
        raise CutOffError from error


def _origin(partial: Path) -> Path:
    """Holds the version, in the server's words, of the file that a part was cut from."""
    return partial.with_name(f"{partial.name}.version")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _require_space(partial: Path, needed: int) -> None:
    if needed > shutil.disk_usage(partial.parent).free:
        raise _full(partial.parent, needed)


def _refuse_page(url: str, answer: HTTPResponse) -> None:
    if answer.headers.get_content_type() == "text/html":
        raise ValueError(
            f"{url} gave a web page and not a file; a network that wants a login does that, or an "
            "address whose file has moved."
        )


def _full(folder: Path, needed: int | None = None) -> OSError:
    wanted = "" if needed is None else f", and {needed / 2**20:,.0f} MiB are still to come"
    return OSError(
        errno.ENOSPC,
        f"The disk of {folder} is full{wanted}. What came is kept: make room, and the same command "
        "goes on from there",
    )


def _refused(url: str, error: HTTPError) -> OSError:
    if error.code in (404, 410):
        return FileNotFoundError(f"There is no file at {url} any more ({error.code}).")
    return OSError(f"{url} was refused by its server: {error.code} {error.reason}.")


def _unreachable(url: str, error: Exception) -> OSError:
    reason = getattr(error, "reason", error)
    return OSError(
        f"{url} cannot be reached: {reason}. Without a network, download it elsewhere and copy it."
    )
