"""Weights files that visitors send: what is taken, under which name, and what it tells."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import wsolviz
from tests.conftest import SMALL
from wsolviz.backends import uploads
from wsolviz.backends.own_format import Input, WeightsHeader, save_checkpoint
from wsolviz.backends.uploads import take_upload, title_of
from wsolviz.errors import public_text


@pytest.fixture
def header():
    return WeightsHeader(backbone=SMALL, num_classes=7)


@pytest.fixture
def rewritten(checkpoint, tmp_path):
    """Writes the checkpoint anew with another header."""

    def write(header, name="other.safetensors"):
        path = tmp_path / name
        save_checkpoint(load_file(checkpoint), path, header)
        return path

    return write


def refusal(path):
    with pytest.raises((ValueError, OSError)) as caught:
        take_upload(path)
    told = public_text(caught.value)
    assert str(path.parent) not in told
    return told


def test_a_sent_file_is_a_backbone_that_shows_neither_token_nor_path(checkpoint):
    (upload,) = take_upload(checkpoint)
    assert re.fullmatch("upload/[0-9a-f]{32}/mine.safetensors", upload.name)
    assert upload.found.sha256[:8] not in upload.name, "who knows the file's hash knows no name"
    backbone = wsolviz.load_backbone(upload.name)
    assert backbone.name == "mine.safetensors"
    assert backbone.weights.source == "mine.safetensors, sent by hand"
    images = torch.rand(1, 3, 64, 64)
    given = wsolviz.load_backbone(SMALL, weights=checkpoint).extract(images)
    torch.testing.assert_close(backbone.extract(images).logits, given.logits)


def test_the_same_file_has_the_same_name_and_another_one_another(checkpoint, rewritten, header):
    (first,), (again,) = take_upload(checkpoint), take_upload(checkpoint)
    (other,) = take_upload(rewritten(header.model_copy(update={"source": "else"})))
    assert first.name == again.name != other.name


def test_a_file_that_fits_several_networks_is_each_of_them(tmp_path):
    path = tmp_path / "mine.safetensors"
    module = wsolviz.load_backbone("resnet50_cam", weights=None, num_classes=5).module
    save_file(module.state_dict(), path)
    taken = take_upload(path)
    assert {"resnet50_cam", "timm/resnet50"} <= {upload.network for upload in taken}
    assert len({upload.name for upload in taken}) == len(taken) > 1
    assert all(title_of(u.name) == f"mine.safetensors as {u.network}" for u in taken)


@pytest.mark.parametrize("name", ["mine.pth", "mine.SAFETENSORS", "mine.bin", "safetensors"])
def test_another_ending_is_told_how_to_convert(tmp_path, name, monkeypatch):
    monkeypatch.setattr(uploads, "identify", lambda _: pytest.fail("it was read"))
    path = tmp_path / name
    path.write_bytes(b"anything")
    assert "python -m wsolviz zoo convert" in refusal(path)


def test_what_is_no_checkpoint_or_fits_nothing_is_told_by_the_files_own_name(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"nonsense")
    assert refusal(path).startswith("mine.safetensors is not a safetensors file")
    save_file({"fc.weight": torch.zeros(7, 2048), "fc.bias": torch.zeros(7)}, path)
    told = refusal(path)
    assert told.startswith("mine.safetensors fits no network whole. Closest: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "file//etc/passwd"}, "for another file, not for a network"),
        ({"backbone": "upload/0123/x"}, "for another file, not for a network"),
        ({"backbone": "timm/"}, "a whole family"),
        ({"backbone": "nothing"}, "There is no backbone 'nothing'"),
        ({"num_classes": 10**9}, "1000000000 classes; its classifier has 7"),
        ({"backbone": "slak_tiny/9999-9999-9999-9999-plain"}, "does not fit"),
        ({"backbone": "timm/no_such_model"}, "does not fit"),
        ({"class_names": ("a", "b")}, "2 class names for 7 classes"),
        ({"output_stride": 1}, "output_stride is one of"),
        ({"input": Input(size=(9999, 224), mean=(0, 0, 0), std=(1, 1, 1))}, "9999"),
    ],
)
def test_a_header_that_asks_for_more_than_the_file_is_refused(rewritten, header, changes, said):
    assert said in refusal(rewritten(header.model_copy(update=changes)))


def test_a_header_for_another_network_is_told_what_does_not_fit(rewritten, header):
    told = refusal(rewritten(header.model_copy(update={"backbone": "timm/resnet18"})))
    assert told.startswith("other.safetensors says that it is for timm/resnet18, which it does not")
    assert "missing (conv1.weight" in told


def test_an_empty_tensor_of_many_rows_allows_no_more_classes(tmp_path, checkpoint, header):
    path = tmp_path / "mine.safetensors"
    many = header.model_copy(update={"num_classes": 10**7})
    save_checkpoint(load_file(checkpoint) | {"more": torch.zeros(10**7, 0)}, path, many)
    assert "1 unexpected (more)" in refusal(path)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "slak_tiny", "slak_tiny/13-11-9-7"])
def test_a_header_may_name_whatever_the_file_fits(tmp_path, name):
    built = "slak_tiny/13-11-9-7" if name.startswith("slak_tiny") else name
    module = wsolviz.load_backbone(built, weights=None, num_classes=3).module
    path = tmp_path / "mine.safetensors"
    save_checkpoint(module.state_dict(), path, WeightsHeader(backbone=name, num_classes=3))
    (upload,) = take_upload(path)
    assert upload.network == name


def test_a_header_of_other_kernels_is_refused(tmp_path):
    module = wsolviz.load_backbone("slak_tiny/13-11-9-7", weights=None, num_classes=3).module
    header = WeightsHeader(backbone="slak_tiny/15-11-9-7", num_classes=3)
    save_checkpoint(module.state_dict(), tmp_path / "mine.safetensors", header)
    assert "it is for slak_tiny/13-11-9-7" in refusal(tmp_path / "mine.safetensors")


@pytest.mark.parametrize(
    "name", ["upload/", "upload/mine.safetensors", "upload/00/../../x", "upload//etc"]
)
def test_a_name_made_up_leads_nowhere(name):
    with pytest.raises(FileNotFoundError, match="is not on this server"):
        wsolviz.load_backbone(name)


def test_a_deleted_file_is_gone_under_its_name(rewritten, header):
    path = rewritten(header, "short-lived.safetensors")
    (upload,) = take_upload(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"short-lived\.safetensors is not on this server"):
        wsolviz.load_backbone(upload.name)


def test_an_upload_takes_no_other_weights(checkpoint):
    (upload,) = take_upload(checkpoint)
    with pytest.raises(ValueError, match="leave weights out"):
        wsolviz.load_backbone(upload.name, weights=checkpoint)
