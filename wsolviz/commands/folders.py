"""What --out may be, said before the work begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def refuse_file(out: Path) -> None:
    """Fail before the work begins where the results' folder is a file.

    Raises:
        NotADirectoryError: it is.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file; give a folder for the results.")


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
