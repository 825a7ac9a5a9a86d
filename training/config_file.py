"""Configurations on disk: read strictly, changed by `key.path=value`, written whole.

Files are YAML, its plain values read as version 1.2 means them: 3e-4 is a number, and no, on and
1:30 are text. Relative paths in a configuration are relative to the working directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from training.config import TrainingConfig
from training.config_errors import lines_of

_DIGITS = list("-+0123456789")
# YAML 1.2's core schema (section 10.3.2) without octal and hexadecimal numbers and without
# infinity: the tag of a plain value, its form, and what it may begin with.
_PLAIN = (
    ("null", r"(~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]+\Z", _DIGITS),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", [*_DIGITS, "."]),
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a configuration from a YAML file.

    Args:
        path: of the file.
        overrides: `key.path=value` each, such as optimizer.lr=1e-3 or data.train.0.root=DIR; values
            are YAML, and a part of the path may be the index of a list's entry.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read, and every key that is unknown, missing or has a value that
            is not allowed; a line each.
    """
    path = Path(path)
    if not path.is_file():
        here = sorted(found.name for found in path.parent.glob("*.yaml"))
        hint = f" In {path.parent} there are: {', '.join(here)}." if here else ""
        raise FileNotFoundError(f"There is no configuration {path}.{hint}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}.") from error
    return parse_config(text, overrides, str(path))


def parse_config(
    text: str, overrides: Sequence[str] = (), source: str = "The configuration"
) -> TrainingConfig:
    """As `load_config`, from the text of a file; `source` is what errors call it."""
    tree = _read(text, source)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ValueError(f"{source} should consist of keys and values, as in epochs: 10.")
    for override in overrides:
        _apply(tree, *read_override(override))
    try:
        # By way of JSON: strict models then take lists for tuples and whole numbers for floats.
        return TrainingConfig.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        changed = f" with {' '.join(overrides)}" if overrides else ""
        lines = "".join(f"\n  {line}" for line in lines_of(error))
        raise ValueError(f"{source}{changed} cannot be used:{lines}") from error


def dump_config(config: TrainingConfig) -> str:
    """The whole configuration, defaults included, as YAML that `parse_config` reads back."""
    values = config.model_dump(mode="json")
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read_override(override: str) -> tuple[str, Any]:
    """The path of an override `key.path=value`, and its value as YAML means it.

    Raises:
        ValueError: no such text, or a value that is not YAML.
    """
    path, equals, text = override.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise ValueError(f"{override!r} is no key.path=value, such as optimizer.lr=1e-3.")
    return path, _read(text, f"The value of {path}")


def _read(text: str, source: str) -> Any:
    """A YAML text as plain values, of which no two are the same object."""
    try:
        return json.loads(json.dumps(yaml.load(text, _Loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"{source}{line}: {reason}.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML: {error}.") from error
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{source} may hold text, numbers, true, false, null, lists and keys: {error}."
        ) from error


def _apply(tree: dict[str, Any], path: str, value: Any) -> None:
    """Change what an override names; sections on the way that are not there yet are made."""
    keys = path.strip().split(".")
    place: Any = tree
    for depth, key in enumerate(keys):
        here = ".".join(keys[:depth])
        index = _index(place, key, here, path)
        if depth == len(keys) - 1:
            place[index] = value
        elif isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[index]


def _index(place: Any, key: str, here: str, path: str) -> str | int:
    """By what a part of an override's path is found in the list or section before it."""
    if isinstance(place, dict):
        return key
    if not isinstance(place, list):
        raise ValueError(f"{path} cannot be set: {here} is {json.dumps(place)}, which has no keys.")
    if not key.isdecimal() or int(key) >= len(place):
        raise ValueError(
            f"{path} cannot be set: {here} is a list of {len(place)}, counted from 0, without an "
            f"entry {key}."
        )
    return int(key)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no type hints
    """YAML 1.2's plain values; a key that stands twice is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A section of the file."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if name in lines:
                problem = f"the key {name} stands on line {lines[name]} already"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            lines[name] = key.start_mark.line + 1
        constructed: dict[Any, Any] = super().construct_mapping(node, deep)
        return constructed


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes text that YAML 1.1 or 1.2 would take for something else."""


def _number(loader: Any, node: Any) -> int | float:
    text = loader.construct_scalar(node)
    return int(text) if node.tag.endswith(":int") else float(text)


for _tag, _form, _beginnings in _PLAIN:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_form), _beginnings)
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)
