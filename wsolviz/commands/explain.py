"""python -m wsolviz explain: photos and folders of photos to folders of results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wsolviz.classes import find_class
from wsolviz.commands.folders import refuse_file, refuse_to_overwrite
from wsolviz.commands.messages import messages, say
from wsolviz.commands.options import (
    Backbones,
    FeatureSpace,
    Flip,
    ForwardPrecision,
    ImageSize,
    OutputStride,
    Panels,
    Scales,
)
from wsolviz.compare import CompareOptions, CompareRequest, compare
from wsolviz.defaults import DEFAULTS
from wsolviz.export import write_folder
from wsolviz.photo import SUFFIXES
from wsolviz.render import Look
from wsolviz.types import Contours


def explain(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    backbone: Backbones = DEFAULTS.backbones,  # type: ignore[assignment]
    method: Panels = DEFAULTS.methods,  # type: ignore[assignment]
    class_choice: Annotated[
        str | None, typer.Option("--class", help="Index or name; default: each backbone's top-1.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="cam_threshold.")] = DEFAULTS.cam_threshold,
    contours: Annotated[Contours, typer.Option(help="Boxes of which contours.")] = (
        DEFAULTS.contours
    ),
    space: FeatureSpace = DEFAULTS.space,
    image_size: ImageSize = None,
    scales: Scales = None,
    flip: Flip = False,
    output_stride: OutputStride = None,
    precision: ForwardPrecision = DEFAULTS.precision,
    force: Annotated[bool, typer.Option(help="Overwrite results.")] = False,
) -> None:
    """Explain photos: for each a folder with PNGs, NPZ, manifest and an offline HTML report."""
    refuse_file(out)
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
        loaded = request.options.load(name)
        if class_choice is not None:
            find_class(class_choice, loaded.num_classes, loaded.class_names)
    failures = _explain_all(folders, request, look, force)
    for path, reason in failures.items():
        say(f"wsolviz: {path}: {reason}", style="red")
    say(f"{len(folders) - len(failures)} of {len(folders)} photos explained in {out}")
    raise typer.Exit(1 if failures else 0)


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
    with Progress(*columns, console=messages) as bar:
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
        ValueError: a folder that holds no photo, or results that would lie over the photos.
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
            raise FileNotFoundError(f"There is no photo, folder, method or backbone {path}.")
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
    given = {path.resolve() for path in results}
    # Of a single map the overlay lies beside the folder, see `scoremap_files`.
    overlays = (folder.with_name(f"{folder.name}.png") for folder in results.values())
    covered = next((path for path in overlays if path.resolve() in given), None)
    if covered is not None:
        raise ValueError(f"{covered} is one of the photos; choose another --out, not their folder.")
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
