"""A card's command says how, and not in which folders of the computer that ran it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from training.config_file import read_override
from training.publish.command import command_of

PROJECT = Path(__file__).resolve().parents[3]


def test_what_holds_no_absolute_path_is_told_as_it_was_typed() -> None:
    overrides = ["optimizer.lr=1e-3", "data.train.0.root=data/my cub", "name=  a", "ema=null"]
    told = shlex.split(command_of(Path("training/configs/x.yaml"), overrides, half=True))
    start = ["python", "-m", "training.train", "--config", "training/configs/x.yaml"]
    assert told == [*start, *overrides, "--half"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (PROJECT / "training" / "configs" / "x.yaml", "training/configs/x.yaml"),
        (Path("/home/me/my.yaml"), "my.yaml"),
        (Path("my/own.yaml"), "my/own.yaml"),
    ],
)
def test_a_configuration_is_told_by_where_it_lies_in_the_project(given: Path, told: str) -> None:
    assert shlex.split(command_of(given, [], half=False))[3:] == ["--config", told]


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.train.0.root=/home/me/cub", "cub"),
        ("data.train.0.root='/home/me/my cub'", "my cub"),
        ("data.train.0.root=/home/me/2011", "2011"),
        ("backbone.name=file//home/me/a.safetensors", "file/a.safetensors"),
        (
            "data.train=[{kind: folders, root: /home/me/b}, {kind: folders, root: c}]",
            [{"kind": "folders", "root": "b"}, {"kind": "folders", "root": "c"}],
        ),
    ],
)
def test_of_an_absolute_path_the_last_part_is_told(typed: str, value: object) -> None:
    command = command_of(Path("x.yaml"), [typed], half=False)
    assert "/home" not in command
    assert read_override(shlex.split(command)[-1]) == (typed.partition("=")[0], value)
