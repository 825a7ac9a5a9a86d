"""Building timm's models by name, with weights from its hub, from a file, or none."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from timm.models import PretrainedCfg
from torch import nn

from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.checkpoints import load_strictly, read_checkpoint, rows_of, sha256_of
from wsolviz.backends.loading import OTHER_WEIGHTS
from wsolviz.errors import with_public_text

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT = 10.0  # seconds

# Not from timm, which has no list: what its families answered when asked (`timm_census`).
STRIDE_FAMILIES = (
    "ResNet (with ResNeXt, SE-, Res2Net, ResNeSt, SKNet), ResNetV2, RegNet, NFNet, EfficientNet, "
    "MobileNetV3, ConvNeXt, InceptionNeXt, CspNet, CspNeXt, ByobNet, ReXNet, MobileViT, Xception"
)


def check_name(name: str) -> None:
    """Whether timm knows a model, asked before anything is built.

    Raises:
        ValueError: it does not; names that come near are listed.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        missing = f"timm {timm.__version__} has no model {architecture!r}.{hint}"
        raise with_public_text(
            ValueError(f"{missing} timm.list_models('*part*') lists the names that hold a part."),
            f"{missing} https://huggingface.co/timm lists those with weights.",
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        allowed = ", ".join(tags) or "none"
        raise ValueError(f"timm's {architecture} has no weights tagged {tag!r}; it has: {allowed}.")


def build(
    name: str,
    weights: str | Path | None,
    num_classes: int | None,
    output_stride: int | None,
) -> tuple[nn.Module, WeightsInfo]:
    """A timm model and where its weights came from.

    Args:
        name: timm's, with or without a tag.
        weights: "default" for timm's hub, None for random ones, or a file.
        num_classes: K; None for the model's own.
        output_stride: input pixels a cell of the last map; None for the model's own.

    Raises:
        ValueError: an unknown name, an output stride that the family does not offer, a model
            without a classifier, or weights that do not fit.
        FileNotFoundError: weights that are not there and cannot be fetched.
    """
    check_name(name)
    kwargs: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    kwargs |= _size_options(name, kwargs)
    if output_stride is not None:
        _check_output_stride(name, kwargs, output_stride)
        kwargs["output_stride"] = output_stride
    config = timm.get_pretrained_cfg(name) or PretrainedCfg()
    if weights == "default":
        return _build_pretrained(name, config, kwargs)
    if weights is not None:
        # Read first: a file that cannot be read should not cost the building of a network.
        state = read_checkpoint(weights)
        module: Any = timm.create_model(name, pretrained=False, **kwargs)
        state = renamed(state, module)
        classes = classes_of(state, name)
        if num_classes is None and classes not in (None, module.num_classes):
            module.reset_classifier(classes)
        load_strictly(module, state, str(weights))
        return module, WeightsInfo(str(weights), sha256_of(weights))
    return timm.create_model(name, pretrained=False, **kwargs), WeightsInfo("random")


def _build_pretrained(
    name: str, config: PretrainedCfg, kwargs: dict[str, Any]
) -> tuple[nn.Module, WeightsInfo]:
    if not config.has_weights:
        raise with_public_text(
            ValueError(f"timm has no weights for {name}; take another model. {OTHER_WEIGHTS}"),
            f"timm has no trained weights for {name}; take another model.",
        )
    overlay = None
    path = _hub_file(name, config) if config.hf_hub_id else None
    if path is not None and not config.custom_load:
        overlay = {"file": str(path)}  # so that timm does not ask the hub again
    try:
        module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)
    except OSError as error:
        raise _unreachable(name, str(config.url or config.hf_hub_id)) from error
    source = f"hf-hub:{config.hf_hub_id}" if config.hf_hub_id else str(config.url or config.file)
    return module, WeightsInfo(source, sha256_of(path) if path else None, config.license)


def _hub_file(name: str, config: PretrainedCfg) -> Path:
    """The weights' file in the hub's cache, fetched if it is not there yet."""
    repo, _, revision = str(config.hf_hub_id).partition("@")
    files = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(repo, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    try:
        _require_network()
        for file in files[:-1]:
            try:
                return Path(huggingface_hub.hf_hub_download(repo, file, revision=revision or None))
            except EntryNotFoundError:
                continue
        return Path(huggingface_hub.hf_hub_download(repo, files[-1], revision=revision or None))
    except (OSError, HfHubHTTPError) as error:
        raise _unreachable(name, f"{repo} ({' or '.join(files)})") from error


def _require_network() -> None:
    """Ask the hub once whether it is there; its own client would ask for most of a minute.

    Raises:
        OSError: no answer.
    """
    request = Request(huggingface_hub.constants.ENDPOINT, method="HEAD")
    try:
        urlopen(request, timeout=HUB_TIMEOUT).close()
    except HTTPError:
        return  # an answer all the same


def _unreachable(name: str, wanted: str) -> FileNotFoundError:
    cache = huggingface_hub.constants.HF_HUB_CACHE
    missing = FileNotFoundError(
        f"The weights of timm/{name} are not on this computer and cannot be fetched: looked for "
        f"{wanted} in {cache} and at {huggingface_hub.constants.ENDPOINT}. Run once with a "
        f"network. {OTHER_WEIGHTS}"
    )
    return with_public_text(
        missing,
        f"The weights of timm/{name} are not on this server, and it cannot fetch them from the "
        "hub now. Take another backbone, or try again later.",
    )


def _size_options(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Options that let a network with a fixed grid of tokens take images of other sizes."""
    options = {"dynamic_img_size": True}
    return options if _accepts(name, kwargs | options) is None else {}


def _check_output_stride(name: str, kwargs: dict[str, Any], output_stride: int) -> None:
    refusal = _accepts(name, kwargs | {"output_stride": output_stride})
    if refusal is None:
        return
    if _accepts(name, kwargs | {"output_stride": 32}) is None:
        raise with_public_text(
            ValueError(
                f"timm/{name} does not take output_stride={output_stride} ({refusal}); "
                "8, 16 and 32 are usual."
            ),
            f"timm/{name} does not take an output stride of {output_stride}; choose another one.",
        )
    families = f"take a family that does: {STRIDE_FAMILIES}."
    raise with_public_text(
        ValueError(f"timm/{name} does not offer output_stride; leave it out, or {families}"),
        f"timm/{name} does not offer a choice of output stride; leave the backbone's own, or "
        f"{families}",
    )


def _accepts(name: str, kwargs: dict[str, Any]) -> str | None:
    """None if timm builds the model with these options, else why not.

    Asked on the meta device, where a network has shapes but no memory.
    """
    try:
        with torch.device("meta"):
            timm.create_model(name, pretrained=False, **kwargs)
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    return None


def renamed(state: Mapping[str, torch.Tensor], module: nn.Module) -> dict[str, torch.Tensor]:
    """The state under timm's names, where its family knows how to rename the official ones."""
    if state.keys() == module.state_dict().keys():
        return dict(state)
    family = sys.modules[type(module).__module__]
    rename = getattr(family, "checkpoint_filter_fn", None)
    return dict(state) if rename is None else rename(dict(state), module)


def classes_of(state: Mapping[str, torch.Tensor], name: str) -> int | None:
    """K that a state dict under timm's names was made for; None where it has no classifier."""
    config = timm.get_pretrained_cfg(name) or PretrainedCfg()
    heads = config.classifier or ()
    for head in (heads,) if isinstance(heads, str) else heads:
        if f"{head}.weight" in state:
            return rows_of(state, f"{head}.weight")
    return None
