"""What is wrong with a configuration, a line for each key, in the words of the file.

pydantic says where in its models a value was refused, and the models' JSON schema says what is
allowed there; the names that tell the members of a union apart are no part of the path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError

from training.config import TrainingConfig
from wsolviz.registry import alternatives

Schema: TypeAlias = Mapping[str, Any]

LONGEST = 60  # characters of a value in an error
VALUES = {
    "boolean": "true or false",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}


def lines_of(error: ValidationError) -> list[str]:
    """Each error as the key's path, what was given and what is allowed."""
    lines = [line for found in error.errors() if not _echoes(found) for line in _lines(found)]
    return list(dict.fromkeys(lines))  # each member of a union has refused the same value


def _echoes(error: Mapping[str, Any]) -> bool:
    """Whether a list only counts as too short since its entries, reported already, are refused."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _lines(error: Mapping[str, Any]) -> list[str]:
    kind, given = error["type"], error.get("input")
    path, schema, siblings = _locate(error["loc"])
    if kind == "value_error":  # a check of this project; that of the whole says the path itself
        return [
            f"{path}: {line}" if path else line for line in str(error["ctx"]["error"]).split("\n")
        ]
    if kind == "extra_forbidden":
        return [f"{path}: unknown key.{alternatives(path.rpartition('.')[2], siblings)}"]
    if kind.startswith("union_tag"):
        union = _not_null(schema)["discriminator"]
        path, schema = f"{path}.{union['propertyName']}", {"enum": list(union["mapping"])}
        given = error["ctx"].get("tag")
    missing = kind in ("missing", "union_tag_not_found")
    found = f"{path}: {'missing' if missing else f'given {_shown(given)}'}"
    names = _not_null(schema).get("enum")
    if names:
        return [f"{found}.{alternatives(given, names)}"]
    return [f"{found}; allowed: {describe(schema)}."]


class _Place(NamedTuple):
    """A place in a configuration: its path, what is allowed there, the keys beside it."""

    path: str
    schema: Schema
    siblings: list[str]


def _locate(location: tuple[str | int, ...]) -> _Place:
    schema: Schema = _root()
    parts: list[str] = []
    siblings: list[str] = []
    for key in location:
        here = _not_null(schema)
        if "discriminator" in here:  # the key is the name of a union's member
            schema = {"$ref": here["discriminator"]["mapping"][key]}
            continue
        if "anyOf" in here:  # the key is the type of a union's member
            continue
        parts.append(str(key))
        if isinstance(key, int):
            schema = here["prefixItems"][key] if "prefixItems" in here else here["items"]
        else:
            siblings = list(here.get("properties", {}))
            schema = here.get("properties", {}).get(key, {})
    return _Place(".".join(parts), schema, siblings)


def describe(schema: Schema) -> str:
    """What a part of the JSON schema allows, in words."""
    if "anyOf" in schema:
        return ", or ".join(describe(option) for option in schema["anyOf"])
    schema = _not_null(schema)
    if "discriminator" in schema:
        union = schema["discriminator"]
        return f"keys of which {union['propertyName']} is {_either(union['mapping'])}"
    if "const" in schema or "enum" in schema:
        return _either(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "object")
    if kind == "object":
        return f"keys out of {', '.join(schema.get('properties', ()))}"
    return _describe_list(schema) if kind == "array" else _describe_value(kind, schema)


def _describe_value(kind: str, schema: Schema) -> str:
    bounds = [f"{sign} {schema[bound]:g}" for bound, sign in BOUNDS.items() if bound in schema]
    return " ".join(filter(None, (VALUES[kind], " and ".join(bounds))))


def _describe_list(schema: Schema) -> str:
    if "prefixItems" in schema:
        entries = [describe(entry) for entry in schema["prefixItems"]]
        return f"a list of {len(entries)}: {', '.join(entries)}"
    least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
    return f"a list{least}, each {describe(schema['items'])}"


@cache
def _root() -> Schema:
    return TrainingConfig.model_json_schema()


def _not_null(schema: Schema) -> Schema:
    """The schema itself, behind references and beside null."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        schema = options[0]
    while "$ref" in schema:
        schema = _root()["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _either(names: Any) -> str:
    return " or ".join(map(str, names))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
