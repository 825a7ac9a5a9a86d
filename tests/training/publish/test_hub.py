"""What is put on the Hub, which is played by a folder here: timm opens it, and so does wsolviz."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import timm
import torch
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from timm.data import create_transform, resolve_data_config

import wsolviz
from tests.training.publish.conftest import CLASSES, Run
from tests.training.record.conftest import EXAMPLES
from training.publish import hub
from training.publish.hub import hub_folder, push_to_hub


def test_timm_opens_the_folder_of_a_network_of_its_own(timm_run: Run, tmp_path: Path) -> None:
    folder = hub_folder(timm_run.folder, tmp_path / "hub", "me/dogs")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "dogs.json"}
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = resolve_data_config(model=model)
    photo = Image.open(EXAMPLES / "coffee.png").convert("RGB")
    images = create_transform(**config)(photo)[None]
    own = timm_run.backbone.preprocess(photo)[None]
    assert images.shape == own.shape == (1, 3, 96, 96)
    assert (images - own).abs().max() < 0.02  # the same warp, rounded at another place
    with torch.no_grad():
        assert torch.equal(model(own), timm_run.backbone.module(own))
        assert model.forward_features(own).shape[-1] == 6  # the output stride of 16
    assert json.loads((folder / "config.json").read_text())["label_names"] == list(CLASSES)
    assert model.pretrained_cfg["license"] == "CC-BY-SA-4.0"


def test_wsolviz_opens_the_same_file(timm_run: Run, tmp_path: Path) -> None:
    folder = hub_folder(timm_run.folder, tmp_path / "hub")
    opened = wsolviz.load_backbone(f"file/{folder / 'model.safetensors'}")
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(opened.module(images), timm_run.backbone.module(images))
    assert opened.class_names == CLASSES


def test_another_network_goes_as_this_projects_file(own_run: Run, tmp_path: Path) -> None:
    folder = hub_folder(own_run.folder, tmp_path / "hub", "me/dogs")
    names = {path.name for path in folder.iterdir()}
    assert names == {"dogs.safetensors", "README.md", "dogs.json"}
    assert (folder / "dogs.safetensors").read_bytes() == own_run.weights.read_bytes()
    assert 'hf_hub_download("me/dogs", "dogs.safetensors")' in (folder / "README.md").read_text()


def test_the_trained_network_keeps_its_own_configuration(timm_run: Run, tmp_path: Path) -> None:
    opened = wsolviz.load_backbone(f"file/{timm_run.weights}", device="cpu")
    before = dict(opened.module.pretrained_cfg)
    hub_folder(timm_run.folder, tmp_path / "hub")
    assert opened.module.pretrained_cfg == before


Asked = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the Hub was asked for; the uploaded files are kept as bytes."""
    calls: Asked = []

    def create_repo(api: HfApi, repo_id: str, **options: Any) -> RepoUrl:
        calls.append(("create_repo", {"repo_id": repo_id, "token": api.token, **options}))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(api: HfApi, *, folder_path: Path, **options: Any) -> None:
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        calls.append(("upload_folder", {"files": files, **options}))

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return calls


def test_a_repository_is_made_and_filled(timm_run: Run, asked: Asked) -> None:
    address = push_to_hub(timm_run.folder, "me/dogs", private=True, token="hf_secret")
    assert address == "https://huggingface.co/me/dogs"
    (first, made), (second, sent) = asked
    assert (first, second) == ("create_repo", "upload_folder")
    assert made == {"repo_id": "me/dogs", "token": "hf_secret", "private": True, "exist_ok": True}
    assert sent["repo_id"] == "me/dogs"
    assert sent["files"]["model.safetensors"] == timm_run.weights.read_bytes()
    card = sent["files"]["README.md"].decode()
    assert 'timm.create_model("hf-hub:me/dogs", pretrained=True)' in card
    assert "OWNER/NAME" not in card


def http_error(status: int) -> HfHubHTTPError:
    request = httpx.Request("POST", "https://huggingface.co/api/repos/create")
    return HfHubHTTPError("no", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("raised", "kind", "told"),
    [
        (
            http_error(401),
            ValueError,
            "does not let you write me/dogs. Log in with `hf auth login`",
        ),
        (http_error(403), ValueError, "HF_TOKEN"),
        (http_error(500), OSError, "The Hub refused me/dogs"),
        (
            httpx.ConnectError("no route"),
            OSError,
            "cannot be reached.*weights and their card are in",
        ),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(
    timm_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    kind: type[Exception],
    told: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(kind, match=told) as caught:
        push_to_hub(timm_run.folder, "me/dogs", token="hf_secret")
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a name/with blanks", "me/dogs/7", "me/dogs.git", ""])
def test_a_name_that_is_none_is_refused(timm_run: Run, asked: Asked, name: str) -> None:
    with pytest.raises(ValueError, match=r"is no name of a repository, such as OWNER/NAME"):
        push_to_hub(timm_run.folder, name, token="hf_secret")
    assert not asked


def test_without_a_login_nothing_is_sent(
    timm_run: Run, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match=r"who sends weights to me/dogs\. Log in with `hf auth"):
        push_to_hub(timm_run.folder, "me/dogs")
    assert not asked
    monkeypatch.setattr(hub, "get_token", lambda: "hf_kept")
    push_to_hub(timm_run.folder, "me/dogs")
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: None, "no weights in"),
        (lambda folder: [folder.joinpath(f"{n}.safetensors").touch() for n in "ab"], "several"),
        (lambda folder: folder.joinpath("a.safetensors").touch(), "was not written by"),
    ],
)
def test_a_folder_without_a_runs_weights_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(tmp_path)
    with pytest.raises((ValueError, OSError), match=told):
        hub_folder(tmp_path, tmp_path / "hub")
