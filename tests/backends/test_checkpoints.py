"""Checkpoint files in every form they come in, good and bad."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsolviz.backends.checkpoints import load_strictly, read_checkpoint, sha256_of


@pytest.fixture
def state():
    return {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([1.0, 2.0])}


def assert_same(given, expected):
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"model": {k: -v for k, v in s.items()}, "model_ema": s},
        lambda s: {"model": s, "model_ema": {}},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    ],
)
def test_torch_files_bare_nested_and_wrapped(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "weights.pth")
    assert_same(read_checkpoint(tmp_path / "weights.pth"), state)


def test_safetensors(tmp_path, state):
    save_file(state, tmp_path / "weights.safetensors")
    assert_same(read_checkpoint(tmp_path / "weights.safetensors"), state)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a checkpoint ran code')",))


def test_nothing_in_a_file_is_run(tmp_path, state):
    torch.save({"state_dict": state, "extra": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match="would run code"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_a_tensor_that_stands_there_twice_is_refused(tmp_path, state):
    torch.save(state | {"module.fc.bias": torch.zeros(2)}, tmp_path / "twice.pth")
    with pytest.raises(ValueError, match=r"holds fc\.bias twice, once of them as module\.fc\.bias"):
        read_checkpoint(tmp_path / "twice.pth")


# What the bytes ask for: a value that was never stored, more bytes, and a tensor made of nothing.
@pytest.mark.parametrize(
    "content", [b"junk", b"\x80\x02h\x0a.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."]
)
def test_a_pickle_that_makes_no_sense(tmp_path, content):
    (tmp_path / "odd.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.pth cannot be read safely"):
        read_checkpoint(tmp_path / "odd.pth")


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a checkpoint at all")
    with pytest.raises(ValueError, match=name):
        read_checkpoint(tmp_path / name)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize(("content", "word"), [([1, 2], "list"), ({"epoch": 3}, "epoch")])
def test_files_without_weights(tmp_path, content, word):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=word):
        read_checkpoint(tmp_path / "odd.pth")


def test_a_state_that_does_not_fit_is_named_and_not_loaded(state):
    module = nn.Sequential()
    module.fc = nn.Linear(3, 4)
    before = module.fc.weight.clone()
    wrong = {"fc.weight": state["fc.weight"], "head.bias": state["fc.bias"]}
    with pytest.raises(ValueError) as caught:
        load_strictly(module, wrong, "file.pth")
    message = str(caught.value)
    assert "1 missing (fc.bias)" in message
    assert "1 unexpected (head.bias)" in message
    assert "1 of another shape (fc.weight (2, 3) instead of (4, 3))" in message
    assert torch.equal(module.fc.weight, before)


def test_a_state_that_fits_is_loaded(state):
    module = nn.Sequential()
    module.fc = nn.Linear(3, 2)
    load_strictly(module, state, "file.pth")
    assert_same(module.state_dict(), state)


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
