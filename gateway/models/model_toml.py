"""model.toml: what Triton's config.pbtxt has no field for. Strict: an unknown key or a wrong type is an error."""

from __future__ import annotations

import re
import tomllib
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.core.deadline import MAX_TIMEOUT_MS
from gateway.models.config import MODEL_TOML, ModelConfigError
from gateway.models.pbtxt import MAX_CONFIG_BYTES
from gateway.models.texts import plain

Positive = Annotated[int, Meta(ge=1, le=1 << 31)]
_DEVICE = r"^(cpu|cuda(:[0-9]{1,2})?)$"
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_AT = re.compile(r"(.*) - at `(.*)`", re.DOTALL)


class PaddingTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[padding]`: see `config.PaddingConfig`."""

    axis: Annotated[int, Meta(ge=1, le=32)]
    buckets: Annotated[list[Positive], Meta(min_length=1, max_length=64)]
    mask: Annotated[str, Meta(min_length=1)]


class ClientTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[client]`: how a client makes tensors from a file; the server only hands it on."""

    input: dict[str, Any] = {}


class ModelToml(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Empty texts and zeros mean "not said"."""

    runtime: str = ""
    device: Annotated[str, Meta(pattern=_DEVICE)] = "cpu"
    custom_ops: list[str] = []
    batch_dependent_rows: bool = False
    default_timeout_ms: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_MS)] = 0
    instances: Annotated[int, Meta(ge=0, le=1024)] = 0
    warm_up: bool = True
    padding: PaddingTable | None = None
    client: ClientTable = ClientTable()
    options: dict[str, str] = {}


def parse_model_toml(model: str, data: bytes) -> ModelToml:
    """Parse the file of `model`; raise ModelConfigError naming the key (or the line, where it is no TOML)."""
    where = f"model '{model}': {MODEL_TOML}"
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelConfigError(f"{where}: has {len(data)} bytes, at most {MAX_CONFIG_BYTES} are read")
    try:
        tree = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelConfigError(f"{where} line {line}: not valid UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ModelConfigError(f"{where}: {plain(str(error))}") from None
    try:
        parsed = msgspec.convert(tree, ModelToml)
    except (msgspec.ValidationError, ValueError, RecursionError, OverflowError) as error:
        raise ModelConfigError(f"{where}: {_named(str(error))}") from None
    buckets = parsed.padding.buckets if parsed.padding else []
    if buckets != sorted(set(buckets)):
        raise ModelConfigError(f"{where}: key 'padding.buckets': must be increasing, got {buckets}")
    return parsed


def _named(message: str) -> str:
    """Turn msgspec's JSON paths into the keys of the file."""
    unknown = _UNKNOWN.fullmatch(message)
    if unknown:
        return f"unknown key '{plain(_key(unknown[2], unknown[1]))}'"
    at = _AT.fullmatch(message)
    return f"key '{plain(_key(at[2], ''))}': {plain(at[1])}" if at else plain(message)


def _key(path: str | None, last: str) -> str:
    first = (path or "$").removeprefix("$").removeprefix(".")
    return ".".join(part for part in (first, last) if part)
