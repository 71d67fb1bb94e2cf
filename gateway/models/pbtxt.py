"""config.pbtxt: text into Triton's own ModelConfig message. Knows the schema, not what the gateway supports."""

from __future__ import annotations

from google.protobuf import text_format

from gateway.models.config import CONFIG_PBTXT, ModelConfigError, Proto
from gateway.models.texts import plain

MAX_CONFIG_BYTES = 1 << 20  # a label list does not belong here; the largest of Triton's own examples is 9 KB


def parse_pbtxt(model: str, data: bytes) -> Proto:
    """Parse the file of `model`; raise ModelConfigError naming line, column and field where it is wrong.

    Fields the schema does not have are errors, never skipped.
    """
    where = f"model '{model}': {CONFIG_PBTXT}"
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelConfigError(f"{where}: has {len(data)} bytes, at most {MAX_CONFIG_BYTES} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelConfigError(f"{where} line {line}: not valid UTF-8") from None
    config = Proto()
    try:
        text_format.Parse(text, config)
    except (text_format.Error, ValueError, RecursionError) as error:
        raise ModelConfigError(f"{where}{_position(error)}: {_detail(error)}") from None
    if config.name and config.name != model:
        raise ModelConfigError(f"{where}: name is '{plain(config.name, 128)}', the folder's name is '{model}'")
    config.name = model
    return config


def _position(error: Exception) -> str:
    if not isinstance(error, text_format.ParseError) or error.GetLine() is None:
        return ""
    return f" line {error.GetLine()}, column {error.GetColumn()}"


def _detail(error: Exception) -> str:
    """Drop the position (given in words before) and the schema's package."""
    text = str(error)
    if isinstance(error, text_format.ParseError):
        text = text.partition(" : ")[2] or text
    return plain(text.replace("inference.", ""))
