"""The model zoo: every published checkpoint, where it is, what it wants and what it should give.

Read from weights/zoo.yaml. The files themselves lie beside it, or in $WSOLVIZ_WEIGHTS; few of them
may be passed on, so the zoo says where to get each. Those that this project has trained itself come
with it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict, TypeAdapter

from wsolviz.backends.checkpoints import sha256_of
from wsolviz.preprocess import Preprocessing
from wsolviz.registry import Registry
from wsolviz.types import Space

REPOSITORY = Path(__file__).resolve().parents[2]
ZOO_FILE = REPOSITORY / "weights" / "zoo.yaml"
FOLDER_VARIABLE = "WSOLVIZ_WEIGHTS"
BUNDLED = "trained/"  # folder in weights/ of the files that this project has trained

Classes = Literal["ImageNet-1K", "CUB-200-2011", "Tiny-ImageNet"]


def weights_folder() -> Path:
    """Where checkpoints are looked for and put: $WSOLVIZ_WEIGHTS, else weights/ of the project."""
    return Path(os.environ.get(FOLDER_VARIABLE) or ZOO_FILE.parent)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Published(_Strict):
    """Localization figures that a paper or its page gives for a checkpoint.

    Attributes:
        dataset: the split's name as the source calls it.
        method: as in METHODS.
        max_box_acc: per cent, None where it is not given.
        max_box_acc_v2: per cent, None where it is not given.
        source: address of the page that says so.
    """

    dataset: str
    method: str
    max_box_acc: float | None = None
    max_box_acc_v2: float | None = None
    source: str


class InputChanges(_Strict):
    """What a checkpoint wants of its input; None for what its architecture wants anyway."""

    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None

    def over(self, usual: Preprocessing) -> Preprocessing:
        """The architecture's preprocessing with what differs for this checkpoint."""
        changes = self.model_dump(exclude_none=True)
        if self.interpolation is not None:
            changes["interpolation"] = Image.Resampling[self.interpolation.upper()]
        return replace(usual, **changes)


class ZooEntry(_Strict):
    """One checkpoint.

    Attributes:
        name: under which `load_backbone` knows it; what it was trained on stands behind the dot.
        backbone: an architecture's name, or timm/<model>.
        variant: what stands behind the architecture's name and a slash where its file is of another
            form than the usual one; random weights are then of that form, too.
        help: in a few words.
        classes: whose classes it knows, in that data set's own order.
        num_classes: K.
        space: the feature space of the published figures.
        input: how its preprocessing differs from the architecture's.
        output_stride: input pixels a cell of the map, None for the architecture's usual one.
        page: address of the page that describes it; of a bundled one its model card.
        file: name under which its file is looked for, the authors' own where they gave one.
        url: address of the file itself, None where a person has to download it.
        link: address behind which a person downloads it.
        training: name of the configuration in training/configs whose run gives the file, for one
            that its authors have not published.
        licence: SPDX identifier or a few words; None where none is stated.
        sha256: of the file, None where nobody published it.
        top1: accuracy on ImageNet-1K in per cent, as its page gives it (some with a centre crop).
        published: localization figures.
        is_default: whether its architecture loads it when no weights are named.
    """

    name: str
    backbone: str
    variant: str | None = None
    help: str
    classes: Classes
    num_classes: int
    space: Space = "logit"
    input: InputChanges = InputChanges()
    output_stride: int | None = None
    page: str
    file: str
    url: str | None = None
    link: str | None = None
    training: str | None = None
    licence: str | None = None
    sha256: str | None = None
    top1: float | None = None
    published: tuple[Published, ...] = ()
    is_default: bool = False

    @property
    def is_bundled(self) -> bool:
        """Whether its file comes with the project."""
        return self.file.startswith(BUNDLED)

    @property
    def path(self) -> Path:
        """Where its file is looked for; $WSOLVIZ_WEIGHTS is for those that have to be fetched."""
        return (ZOO_FILE.parent if self.is_bundled else weights_folder()) / self.file

    @property
    def is_here(self) -> bool:
        """Whether its file is on this computer."""
        return self.path.is_file()

    @property
    def how_to_get(self) -> str:
        """What to do to have the file, in one line without a path of this computer."""
        folder = f"${FOLDER_VARIABLE}" if os.environ.get(FOLDER_VARIABLE) else "weights"
        place = f"{folder}/{self.file}"
        if self.url is not None:
            return f"Run python -m wsolviz zoo get {self.name}, which fetches it to {place}."
        if self.link is not None:
            return f"Download {self.link} (from {self.page}) and save it as {place}."
        if self.training is not None:
            run = self.training
            return (
                f"Its authors ({self.page}) have published no file: train it with python -m "
                f"training.train --config training/configs/{run}.yaml, and copy "
                f"out/training/{run}/{run}.safetensors to {place}."
            )
        return f"It comes with the project: get weights/{self.file} from its repository anew."

    def missing(self) -> str:
        """Why it cannot be loaded now, with what to do; empty where its file is here."""
        return "" if self.is_here else f"The weights of {self.name} are not here. {self.how_to_get}"


def read_zoo(path: Path = ZOO_FILE) -> Registry[ZooEntry]:
    """The entries of a zoo file, in its order.

    Raises:
        ValueError: a field that is missing, unknown or of the wrong kind.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # By way of JSON, since strict models then take lists for tuples and whole numbers for floats.
    entries = TypeAdapter(list[ZooEntry]).validate_json(json.dumps(content))
    zoo: Registry[ZooEntry] = Registry("zoo entry")
    for entry in entries:
        zoo.register(entry.name, entry)
    return zoo


ZOO = read_zoo()
"""Every checkpoint by name."""


def entry_of(path: Path) -> ZooEntry | None:
    """The entry whose file this is: by its place, or by the published hash."""
    digest = sha256_of(path)
    here = path.resolve()
    return next((e for e in ZOO.values() if e.sha256 == digest or e.path.resolve() == here), None)


def default_entry(backbone: str) -> ZooEntry | None:
    """The entry that an architecture loads when no weights are named, if it has one."""
    return next((e for e in ZOO.values() if e.backbone == backbone and e.is_default), None)
