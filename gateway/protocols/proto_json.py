"""Protobuf messages as the JSON Triton answers with. Pure.

Triton prints every field under its proto name and 64-bit integers as numbers, where protobuf's own JSON mapping
writes them as strings (https://protobuf.dev/programming-guides/json) and clients would have to convert.
"""

from __future__ import annotations

import base64
from typing import Any


def plain(message: Any) -> dict[str, Any]:
    """Return a message as dicts, lists, numbers and text: unset scalars as their default, unset messages left out."""
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            document[field.name] = _repeated(field, getattr(message, field.name))
        elif not field.has_presence or message.HasField(field.name):
            document[field.name] = _single(field, getattr(message, field.name))
    return document


def _repeated(field: Any, values: Any) -> Any:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        value_field = entry.fields_by_name["value"]
        return {str(key): _single(value_field, values[key]) for key in sorted(values)}
    return [_single(field, value) for value in values]


def _single(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value
