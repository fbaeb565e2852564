"""Changing a frozen configuration by dotted names: `optim.lr=1e-3`."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_origin

from pydantic import TypeAdapter, ValidationError

from vitascope.methods.base import Frozen


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is most like `name`, or None if none is near.

    A dotted name is near, too, if its last part is: `lr` is near `optim.lr`.

    Example:
        >>> nearest("videomea", ["videomae", "mme"])
        'videomae'
        >>> nearest("lr", ["depth", "optim.lr"])
        'optim.lr'
        >>> nearest("colour", ["videomae", "mme"]) is None
        True
    """
    names = list(names)
    whole = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if whole:
        return whole[0]
    by_last = {candidate.rpartition(".")[2]: candidate for candidate in reversed(names)}
    last = difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1, cutoff=0.6)
    return by_last[last[0]] if last else None


def choose(name: str, known: Mapping[str, Any]) -> Any:
    """The value of a name; an unknown one is an error that says what is near it.

    Raises:
        ValueError: `name` is not known.

    Example:
        >>> choose("videoma", {"videomae": 1, "mme": 2})
        Traceback (most recent call last):
        ValueError: unknown recipe 'videoma'; try 'videomae'
    """
    if name not in known:
        near = nearest(name, known)
        told = f"try {near!r}" if near else f"the recipes are {', '.join(known)}"
        raise ValueError(f"unknown recipe {name!r}; {told}")
    return known[name]


def override(config: Frozen, assignments: Sequence[str]) -> Frozen:
    """Return a copy of `config` with fields changed; the result is validated as a whole.

    Args:
        config: Any frozen configuration; fields that are configurations themselves are reached by dots.
        assignments: `name=value` each. A value is read as the field's type wants it: JSON (`[0.9, 0.95]`, `null`),
            a Python literal (`None`, `(1, 2)`), for several values also `a,b`, or the plain text.

    Raises:
        ValueError: An unknown name (the message tells the nearest one), a value of the wrong type, or a
            combination that the configuration refuses.

    Example:
        >>> from vitascope.methods.base import Optim
        >>> override(Optim(), ["lr=3e-4", "clip_norm=null", "betas=[0.9, 0.999]"]).betas
        (0.9, 0.999)
        >>> override(Optim(), ["layer_deca=0.75"])
        Traceback (most recent call last):
        ValueError: unknown field 'layer_deca'; the nearest is 'layer_decay'
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"assignment ({assignment!r}) must be of the form name=value, as in optim.lr=1e-3")
        *groups, field = name.split(".")
        node, inner = config, changes
        for group in groups:
            inner = inner.setdefault(group, {})
            node = getattr(node, group, None) if isinstance(node, Frozen) else None
        if not isinstance(node, Frozen) or field not in type(node).model_fields or not isinstance(inner, dict):
            raise ValueError(_unknown(config, name))
        inner[field] = _parse(node, field, name, text.strip())
    return _rebuild(config, changes)


def field_names(config: Frozen) -> list[str]:
    """Return the dotted names of all fields, in the order of the configuration.

    Example:
        >>> from vitascope.methods.base import Optim
        >>> field_names(Optim())[:2]
        ['name', 'lr']
    """
    names = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Frozen):
            names += [f"{name}.{inner}" for inner in field_names(value)]
        else:
            names.append(name)
    return names


def sentence(error: ValidationError) -> str:
    """What is wrong with the fields of a configuration: name, value and what is allowed of each.

    Example:
        >>> from vitascope.methods.base import Optim
        >>> try:
        ...     Optim(lr=-1, name="adma")
        ... except ValidationError as error:
        ...     sentence(error)
        "name ('adma') must be 'adamw', 'adam', 'lars' or 'sgd'; lr (-1) must be greater than 0"
    """
    parts = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if message.startswith("Input should "):
            message = message.replace("Input should", "must", 1)
            place += f" ({problem['input']!r})" if place else ""
            parts.append(f"{place} {message}".strip())
        else:
            parts.append(f"{place}: {message}" if place else message)
    return "; ".join(parts)


def _parse(node: Frozen, field: str, name: str, text: str) -> Any:
    about = type(node).model_fields[field]
    adapter = TypeAdapter(about.rebuild_annotation())
    first: ValidationError | None = None
    for value in _readings(text, has_several=get_origin(about.annotation) is tuple):
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            first = first or error
    raise ValueError(f"{name} ({text!r}): {sentence(first)}") from None


def _readings(text: str, has_several: bool) -> list[Any]:
    readings: list[Any] = []
    for read in (json.loads, ast.literal_eval):
        try:
            readings.append(read(text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    if has_several and not readings:
        readings.append([part.strip() for part in text.split(",")])
    return [*readings, text]


def _rebuild(node: Frozen, changes: dict[str, Any], trail: str = "") -> Frozen:
    fields = dict(node)
    for name, change in changes.items():
        is_group = isinstance(change, dict) and isinstance(fields[name], Frozen)
        fields[name] = _rebuild(fields[name], change, f"{trail}{name}.") if is_group else change
    try:
        return type(node).model_validate(fields)
    except ValidationError as error:
        raise ValueError(f"{trail.rstrip('.') or type(node).__name__}: {sentence(error)}") from None


def _unknown(config: Frozen, name: str) -> str:
    names = field_names(config)
    near = nearest(name, names)
    if near is not None:
        return f"unknown field {name!r}; the nearest is {near!r}"
    return f"unknown field {name!r}; the fields are {', '.join(names)}"
