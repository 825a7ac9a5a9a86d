"""A run's weights on the Hugging Face Hub: in timm's format where the network is timm's."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # no __all__
from timm.models import save_for_hf
from torch import nn

from training.publish.card import CARD, HUB_FILE, REPOSITORY
from training.publish.weights import timm_model
from wsolviz.backends.loading import FILE_FAMILY, load_backbone
from wsolviz.backends.own_format import WeightsHeader, read_header
from wsolviz.preprocess import Preprocessing
from wsolviz.version import __version__

REFUSED = (401, 403)
# Of timm's own weights for this network, and not true of these.
FOREIGN = ("test_input_size", "test_crop_pct", "test_pool_size", "origin_url", "paper_ids", "notes")
LOG_IN = "Log in with `hf auth login`, or give a token that may write there (HF_TOKEN)."


def check_repository(repo_id: str, token: str | None = None) -> None:
    """Refuse what the Hub would refuse anyhow, without asking it: before hours of training.

    Args:
        repo_id: OWNER/NAME.
        token: None for the one that `hf auth login` or HF_TOKEN left.

    Raises:
        ValueError: a name that is none, or nobody is logged in; says what to do.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is no name of a repository, such as {REPOSITORY}: {error}"
        ) from error
    if (token or get_token()) is None:
        raise ValueError(f"The Hub needs to know who sends weights to {repo_id}. {LOG_IN}")


def push_to_hub(folder: Path, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Put a run's weights and card on the Hub, and make the repository where there is none.

    Args:
        folder: of the run, with its weights and README.md.
        repo_id: OWNER/NAME.
        private: whether a repository that is made now is private.
        token: None for the one that `hf auth login` or HF_TOKEN left.

    Returns:
        The repository's address.

    Raises:
        ValueError: a name that is none, or no permission; says what to do.
        FileNotFoundError: weights or card are missing.
        OSError: the Hub cannot be reached.
    """
    check_repository(repo_id, token)
    api = HfApi(token=token, library_name="wsolviz", library_version=__version__)
    with TemporaryDirectory() as made:
        prepared = hub_folder(folder, Path(made), repo_id)
        try:
            place = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=place.repo_id, folder_path=prepared, commit_message="Weights and card"
            )
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else None
            if status in REFUSED:
                raise ValueError(f"The Hub does not let you write {repo_id}. {LOG_IN}") from error
            raise OSError(f"The Hub refused {repo_id}: {error}") from error
        except httpx.HTTPError as error:
            raise OSError(
                f"The Hub at {api.endpoint} cannot be reached: {error}. Nothing is lost: the "
                f"weights and their card are in {folder}; try again later."
            ) from error
    return str(place)


def hub_folder(folder: Path, target: Path, repo_id: str = REPOSITORY) -> Path:
    """Make the folder that a repository is to hold.

    Of a network of timm's these are config.json and model.safetensors, which `timm.create_model`
    opens; that file has this project's header, too, so that `load_backbone` opens it alike. Of
    others it is this project's file alone. The card and the figures lie beside.

    Args:
        folder: of the run.
        target: to be filled.
        repo_id: for the card's examples.

    Raises:
        FileNotFoundError: weights or card are missing.
        ValueError: several weights, or some that this project has not written.
    """
    weights = _weights_in(folder)
    header = read_header(weights)
    if header is None:
        raise ValueError(f"{weights} was not written by this project's training.")
    card = folder / CARD
    if not card.is_file():
        raise FileNotFoundError(f"There is no model card {card}.")
    target.mkdir(parents=True, exist_ok=True)
    if timm_model(header.backbone) is None:
        shutil.copyfile(weights, target / weights.name)
    else:
        module = load_backbone(f"{FILE_FAMILY}{weights}", device="cpu").module
        labels = {"label_names": list(header.class_names)} if header.class_names else {}
        described = describe_for_timm(module, header)
        save_for_hf(described, str(target), model_config=labels, safe_serialization=True)
        shutil.copyfile(weights, target / HUB_FILE)
    figures = weights.with_suffix(".json")
    shutil.copyfile(figures, target / figures.name)
    text = card.read_text(encoding="utf-8").replace(REPOSITORY, repo_id)
    (target / CARD).write_text(text, encoding="utf-8")
    return target


def describe_for_timm(module: nn.Module, header: WeightsHeader) -> nn.Module:
    """A copy of a timm model whose configuration says how these weights want their input.

    The whole photo is warped to the input's size, which timm calls crop mode "squash".
    """
    copy: Any = deepcopy(module)
    own = {name: value for name, value in copy.pretrained_cfg.items() if name not in FOREIGN}
    assert header.input is not None, "training always writes it"
    wanted: Preprocessing = header.input.preprocessing()
    copy.pretrained_cfg = own | {
        "input_size": (3, *wanted.size),
        "mean": wanted.mean,
        "std": wanted.std,
        "interpolation": wanted.interpolation.name.lower(),
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "num_classes": header.num_classes,
        "license": header.licence or "unknown",
        "tag": "wsolviz",
    }
    trained: nn.Module = copy
    return trained


def _weights_in(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise FileNotFoundError(f"There are no weights in {folder}; was the run trained to an end?")
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds several weights ({', '.join(path.name for path in found)}); leave one."
        )
    return found[0]
