"""Weights files that visitors of the app sent: known by a name nobody can guess, never by a path.

Such a name holds a token made of the file's hash and a secret of this process. Whoever has the name
sent the file, or was told; a name made up leads nowhere, and none leads to another file.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open

from wsolviz.backends.base import Backbone
from wsolviz.backends.candidates import candidate_of
from wsolviz.backends.identify import Identified, identify, load_identified
from wsolviz.backends.loading import (
    BACKBONES,
    FILE_FAMILY,
    LoadRequest,
    check_output_stride,
    family_of,
    find_entry,
    register_backbone,
)
from wsolviz.backends.own_format import WeightsHeader
from wsolviz.errors import with_public_text, without_path
from wsolviz.preprocess import MAX_INPUT, MIN_INPUT

UPLOADS = "upload/"
SUFFIX = ".safetensors"
CONVERT = (
    "Convert it in a trusted place with python -m wsolviz zoo convert, and send the result: other "
    "formats can hold code."
)

_secret = secrets.token_bytes(32)
_uploads: dict[str, Upload] = {}


@dataclass(frozen=True)
class Upload:
    """A file that was sent, as one of the networks that it fits.

    Attributes:
        found: what the file is.
        network: which of `found.backbones`.
    """

    found: Identified
    network: str

    @property
    def title(self) -> str:
        """What people are shown: the file's own name, and the network where that was a choice."""
        several = len(self.found.backbones) > 1
        return f"{self.found.path.name} as {self.network}" if several else self.found.path.name

    @property
    def name(self) -> str:
        """What `load_backbone` takes."""
        known = f"{self.found.sha256} {self.network} {self.found.path.name}"
        token = hmac.digest(_secret, known.encode(), "sha256").hex()[:32]
        return f"{UPLOADS}{token}/{self.title}"


def take_upload(path: Path) -> list[Upload]:
    """Say what a file is that was sent, and make it known to `load_backbone`.

    Returns:
        One for each network that it fits.

    Raises:
        ValueError: another ending, or a file that no network takes.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path.name} is no {SUFFIX} file. {CONVERT}")
    with without_path(path):
        found = identify(path)
        if found.header is not None:
            _check_header(path, found.header)
    for name in [name for name, upload in _uploads.items() if not upload.found.path.is_file()]:
        _uploads.pop(name, None)
    uploads = [Upload(found, network) for network in found.backbones]
    _uploads.update({upload.name: upload for upload in uploads})
    return uploads


def find_upload(name: str) -> Upload | None:
    """The file that was sent under a name; None where there is none, or not any more."""
    upload = _uploads.get(name)
    return upload if upload is not None and upload.found.path.is_file() else None


def gone(name: str) -> str:
    """What to say of a name that no file was sent under."""
    title = title_of(name) or "The file"
    return f"{title} is not on this server, or not any more; send it again."


def title_of(name: str) -> str:
    """What people are shown of a backbone's name: of a file no folder of this computer.

    >>> title_of("timm/resnet50"), title_of("upload/6f1c/mine.safetensors")
    ('timm/resnet50', 'mine.safetensors')
    >>> title_of("file/out/mine.safetensors"), title_of("file//home/me/mine.safetensors")
    ('file/out/mine.safetensors', 'file/mine.safetensors')
    """
    if is_upload(name):
        return name.removeprefix(UPLOADS).partition("/")[2]
    path = Path(name.removeprefix(FILE_FAMILY))
    if family_of(name) == FILE_FAMILY and path.is_absolute():
        return f"{FILE_FAMILY}{path.name}"
    return name


def is_upload(name: str) -> bool:
    """Whether a backbone's name is that of a file that was sent."""
    return family_of(name) == UPLOADS


@register_backbone(UPLOADS, "a weights file that was sent to the app")
def load_upload(request: LoadRequest) -> Backbone:
    """Load a file that was sent.

    Raises:
        FileNotFoundError: it was not sent to this process, or has been deleted since.
        ValueError: weights or options that do not fit.
    """
    upload = find_upload(request.name)
    if upload is None:
        raise with_public_text(FileNotFoundError(gone(request.name)), gone(request.name))
    if request.weights != "default":
        raise ValueError(f"{upload.title} is a weights file already; leave weights out.")
    with without_path(upload.found.path):
        backbone = load_identified(upload.found, upload.network, request)
    # What leaves the server, in a page or an export, holds neither the token nor the path.
    backbone.name = upload.title
    backbone.weights = replace(backbone.weights, source=f"{upload.found.path.name}, sent by hand")
    return backbone


def _check_header(path: Path, header: WeightsHeader) -> None:
    """Refuse a header that would have more built or read than the file's own network.

    Raises:
        ValueError: a network that is not known, that the file's tensors do not fit, or that is a
            file itself; sizes out of bounds.
    """
    network = header.backbone
    if network in BACKBONES and find_entry(network).is_family:
        raise ValueError(f"{path} names no network but a whole family, {network!r}.")
    if family_of(network) in (FILE_FAMILY, UPLOADS):
        raise ValueError(f"{path} says that it is for another file, not for a network.")
    check_output_stride(header.output_stride)
    with safe_open(path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    candidate = candidate_of(network, shapes)
    if candidate is None or not candidate.fits:
        problems = "" if candidate is None else f": {candidate.problems}"
        raise ValueError(f"{path} says that it is for {network}, which it does not fit{problems}.")
    # "slak_tiny" is whatever kernels the file has, "slak_tiny/61-…" those alone.
    if "/" in network and candidate.backbone != network:
        raise ValueError(f"{path} says that it is for {network}; it is for {candidate.backbone}.")
    if candidate.num_classes != header.num_classes:
        raise ValueError(
            f"{path} says {header.num_classes} classes; its classifier has {candidate.num_classes}."
        )
    if header.class_names and len(header.class_names) != header.num_classes:
        raise ValueError(
            f"{path} has {len(header.class_names)} class names for {header.num_classes} classes."
        )
    sides = () if header.input is None else header.input.size
    if any(not MIN_INPUT <= side <= MAX_INPUT for side in sides):
        raise ValueError(
            f"{path} wants an input of {sides}; sides of {MIN_INPUT} to {MAX_INPUT} pixels are "
            "taken."
        )
