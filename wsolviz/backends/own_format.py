"""This project's own weights files: safetensors whose header says what network they are for.

One file holds everything that is needed to use the weights again, and nothing that could run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from wsolviz.preprocess import Preprocessing
from wsolviz.types import Space

HEADER_KEY = "wsolviz"


class Input(BaseModel, frozen=True, extra="forbid"):
    """`Preprocessing` as a header holds it."""

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Image.Resampling = Image.Resampling.BICUBIC

    @field_validator("interpolation", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        known = {filter.name.lower(): filter for filter in Image.Resampling}
        if value not in known:
            raise ValueError(f"there is no filter {value!r}, only {', '.join(known)}")
        return known[value]

    @field_serializer("interpolation")
    def _as_name(self, value: Image.Resampling) -> str:
        return value.name.lower()

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> Input:
        """As a header is to hold it."""
        return cls(
            size=preprocessing.size,
            mean=preprocessing.mean,
            std=preprocessing.std,
            interpolation=preprocessing.interpolation,
        )

    def preprocessing(self) -> Preprocessing:
        """What a backbone takes."""
        return Preprocessing(self.size, self.mean, self.std, self.interpolation)


class WeightsHeader(BaseModel):
    """What a weights file of this project says about itself.

    Attributes:
        backbone: what `load_backbone` is to be called with.
        num_classes: K.
        output_stride: with which the weights were trained; None for the network's own.
        class_names: K names, or empty.
        input: how photos are brought into the network, None for the network's own way.
        space: in which its published numbers were measured.
        licence: of the weights.
        source: where they came from: a file, a page, a training run.
        details: whatever else is worth keeping: versions, seeds, scores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    num_classes: int = Field(ge=1)
    output_stride: int | None = None
    class_names: tuple[str, ...] = ()
    input: Input | None = None
    space: Space = "logit"
    licence: str | None = None
    source: str = ""
    details: dict[str, Any] = {}


def save_checkpoint(
    state: Mapping[str, torch.Tensor], path: str | Path, header: WeightsHeader
) -> None:
    """Write weights with their header; an unfinished file never stands under the final name.

    Args:
        state: names and tensors, as the backbone's module has them.
        path: ends in .safetensors.
        header: what the weights are.

    Raises:
        ValueError: another ending.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"Weights are written as .safetensors, so {path} needs that ending.")
    # Tensors may share memory, which safetensors does not take.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    unfinished = path.with_name(f".{path.name}.part")
    try:
        # Not by save_file, which lets nobody but its owner read the file.
        unfinished.write_bytes(
            save(tensors, {"format": "pt", HEADER_KEY: header.model_dump_json()})
        )
        unfinished.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_header(path: str | Path) -> WeightsHeader | None:
    """The header of a file of this project; None for any other file.

    Raises:
        ValueError: a header that another version of this project wrote, or somebody by hand.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
    except SafetensorError:
        return None  # whoever reads the weights will say it
    if text is None:
        return None
    try:
        return WeightsHeader.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(
            f"{path} has a header of this project that cannot be read: {where}: "
            f"{first['msg'].removeprefix('Value error, ')}."
        ) from error
