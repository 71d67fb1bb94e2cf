"""Class labels of outputs: Triton's `label_filename`, else what the ONNX file carries in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.models.config import CONFIG_PBTXT, ModelConfigError, Proto
from gateway.models.files import read_inside
from runtimes.base import ModelFacts, TensorSpec

METADATA_KEYS = ("character", "labels", "classes")  # PP-OCR and RapidOCR exports; common habits of exporters
MAX_LABEL_BYTES = 16 << 20


def find_labels(folder: Path, config: Proto, facts: ModelFacts) -> Mapping[str, tuple[str, ...]]:
    """Map output names to labels, by class index. Raises ModelConfigError where a named file cannot be read."""
    written = {out.name: out.label_filename for out in config.output if out.label_filename}
    if written:
        return {output: _read(folder, config.name, output, name) for output, name in written.items()}
    labels = labels_in_metadata(facts.metadata)
    output = _labelled_output(facts.signature.outputs, len(labels))
    return {output.name: labels} if labels and output is not None else {}


def labels_in_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Split the first known key by line or, where it is one line, by comma; () where there is none."""
    for key in METADATA_KEYS:
        text = metadata.get(key, "").strip("\r\n")
        if text:
            parts = text.splitlines() if "\n" in text else text.split(",")
            return tuple(part.strip() for part in parts)
    return ()


def _read(folder: Path, model: str, output: str, name: str) -> tuple[str, ...]:
    what = f"model '{model}': {CONFIG_PBTXT}: label_filename of output '{output}'"
    data = read_inside(folder, name, what, MAX_LABEL_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelConfigError(f"{what}: '{name}' is not valid UTF-8") from None
    return tuple(line.rstrip("\r") for line in text.removesuffix("\n").split("\n"))


def _labelled_output(outputs: tuple[TensorSpec, ...], count: int) -> TensorSpec | None:
    """Choose the output whose last dimension is the number of labels; else the first."""
    for output in outputs:
        if output.shape and output.shape[-1] == count:
            return output
    return outputs[0] if outputs else None
