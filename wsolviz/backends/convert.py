"""Any checkpoint that can be read safely, turned into this project's own format."""

from __future__ import annotations

from pathlib import Path

import torch

from wsolviz.backends.identify import Identified, identify
from wsolviz.backends.loading import LoadRequest, find_entry, pick_device
from wsolviz.backends.own_format import Input, WeightsHeader, save_checkpoint
from wsolviz.backends.released import as_released, request_for
from wsolviz.backends.zoo import ZOO, ZooEntry, entry_of


def convert(path: Path, out: Path, name: str | None = None) -> WeightsHeader:
    """Write a checkpoint anew, with a header that says what it is.

    Args:
        path: .safetensors, or a PyTorch file of tensors and plain values.
        out: ends in .safetensors.
        name: a zoo entry or a backbone that it is for; None to tell it from the file.

    Returns:
        The header that was written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read safely, that fits no network, several, or another
            one than `name`; or one that has this project's format already.
        OSError: the file cannot be written.
    """
    found = identify(path)
    if found.header is not None:
        raise ValueError(f"{path} is in this project's format already.")
    entry = entry_of(path) if name is None else ZOO.get(name)
    backbone = _choose(found, entry.backbone if entry else name)
    asked = LoadRequest(backbone, path, None, pick_device("cpu"), None, torch.float32)
    wanted = asked if entry is None else request_for(entry, asked)
    loaded = find_entry(backbone).load(wanted)
    if entry is not None:
        as_released(loaded, entry, asked)
    header = WeightsHeader(
        backbone=backbone,
        num_classes=found.num_classes,
        output_stride=wanted.output_stride,
        class_names=loaded.class_names,
        input=Input.of(loaded.preprocessing),
        space="logit" if entry is None else entry.space,
        licence=None if entry is None else entry.licence,
        source=path.name if entry is None else f"{path.name} of {entry.page}",
        details={"sha256_of_source": found.sha256} | ({} if entry is None else _figures(entry)),
    )
    save_checkpoint(loaded.module.state_dict(), out, header)
    return header


def _choose(found: Identified, name: str | None) -> str:
    """The backbone that the file is for.

    Raises:
        ValueError: several, and no name that says which; or another one than the name.
    """
    fitting = [b for b in found.backbones if name in (None, b, b.partition("/")[0])]
    if len(fitting) == 1:
        return fitting[0]
    known = " or ".join(found.backbones)
    if fitting:
        raise ValueError(f"{found.path} fits {known} alike; say which with --as.")
    raise ValueError(f"{found.path} is a checkpoint of {known}, not of {name}.")


def _figures(entry: ZooEntry) -> dict[str, object]:
    published = [figures.model_dump(exclude_none=True) for figures in entry.published]
    return {"zoo": entry.name} | ({"published": published} if published else {})
