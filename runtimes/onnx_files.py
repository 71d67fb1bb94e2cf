"""Read an ONNX file from disk without trusting it: nothing outside `root`, no link, no bounds beyond a file.

onnxruntime 1.31.1 itself refuses `..`, absolute paths and symlinks in external tensor data but follows a hard
link (measured: it returned the linked file's bytes), so a data file must have exactly one name.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from runtimes.base import LoadFailed, ModelSource
from runtimes.onnx_rows import nodes

MAX_MESSAGE_CHARS = 600
# A source file with line, then a function: its bare name, or its whole signature.
_SOURCE_LOCATION = re.compile(
    r"\S*\w\.(?:cc|cpp|cu|cuh|h):\d+ "
    r"(?:[\w:<>&*,~ ]{0,300}\w\([\w:<>&*,~ ]{0,400}\)(?:::<lambda\([^)]{0,200}\)>)?"
    r"(?: const)? (?:\[with [^\]]{0,400}\] )?|[\w:]+ )?"
)
_PREFIX = re.compile(r"Load model from \S+ failed:\s*|This is an invalid model\. ")
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


def read_model(source: ModelSource) -> ModelProto:
    """Parse the file and check where its external tensors lie. Raises LoadFailed."""
    path = source.path
    try:
        if not path.resolve(strict=True).is_relative_to(source.root.resolve(strict=True)):
            raise LoadFailed(f"{path.name}: lies outside the model repository")
        if not path.is_file():
            raise LoadFailed(f"{path.name}: is not a file")
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise LoadFailed(f"{path.name}: cannot be read ({error.strerror})") from error
    except (DecodeError, ValueError) as error:
        raise LoadFailed(f"{path.name}: is not an ONNX model (it does not parse)") from error
    if not model.ir_version or not model.graph.output:
        raise LoadFailed(f"{path.name}: is not an ONNX model (no graph in it)")
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _check_external(tensor, path.parent)
    return model


def check_model(source: ModelSource, model: ModelProto) -> None:
    """Run the ONNX checker on a file that `read_model` accepted. Raises LoadFailed."""
    shapeless = [value.type.tensor_type for value in model.graph.output if value.type.HasField("tensor_type")]
    shapeless = [kind for kind in shapeless if not kind.HasField("shape")]
    for kind in shapeless:  # the checker insists on a shape, which exporters leave out and onnxruntime infers
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(model if shapeless else source.path)
    except Exception as error:  # the checker raises ValidationError and, for broken files, several others
        raise LoadFailed(f"{source.path.name}: {clean(error, source)}") from error
    finally:
        for kind in shapeless:
            kind.ClearField("shape")


def clean(error: BaseException, source: ModelSource | None = None) -> str:
    """Make a foreign error's text fit to be shown: one line, no path, no source location, bounded."""
    if isinstance(error, UnicodeDecodeError):  # text in a broken file, or onnxruntime's own message about one
        return "text in it is not valid UTF-8"
    text = str(error).split("==> Context:")[0]
    if source is not None:
        for path in (source.path, source.path.resolve()):
            text = text.replace(str(path), path.name)
        for folder in (source.path.parent, source.path.parent.resolve(), source.root, source.root.resolve()):
            text = text.replace(f"{folder}/", "").replace(str(folder), "the model's folder")
    text = _SOURCE_LOCATION.sub("", _PREFIX.sub("", _CODE.sub("", text)))
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:MAX_MESSAGE_CHARS]}..."


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    graphs = [model.graph]
    for node in nodes(model):
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            yield attribute.sparse_tensor.values
            yield attribute.sparse_tensor.indices
            graphs.append(attribute.g)
            graphs.extend(attribute.graphs)
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices


def _check_external(tensor: TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    who = f"external data of tensor {tensor.name!r}"
    parts = PurePosixPath(location).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in location or "\\" in location:
        raise LoadFailed(f"{who}: its location must be a relative path inside the model's folder")
    size = _size_of_plain_file(folder, parts, who)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    except ValueError as error:
        raise LoadFailed(f"{who}: offset and length must be whole numbers") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise LoadFailed(f"{who}: offset {offset} and length {length} reach beyond the file's {size} bytes")


def _size_of_plain_file(folder: Path, parts: tuple[str, ...], who: str) -> int:
    place = folder
    for number, part in enumerate(parts, start=1):
        place = place / part
        try:
            facts = place.lstat()
        except OSError as error:
            raise LoadFailed(f"{who}: the file {'/'.join(parts)!r} cannot be read ({error.strerror})") from error
        if number < len(parts):
            if not stat.S_ISDIR(facts.st_mode):
                raise LoadFailed(f"{who}: {part!r} is not a folder (links are not followed)")
        elif not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise LoadFailed(f"{who}: {part!r} must be a plain file with one name (no symbolic or hard link)")
    return facts.st_size
