"""`gateway infer`: one prediction from a file, made into tensors as the model's `[client.input]` says."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli import root
from gateway.cli.models import AdminUrl

if TYPE_CHECKING:
    from gateway.cli.wire import Array

Url = Annotated[str | None, typer.Option("--url", help="Default: GATEWAY_URL, else from the configuration.")]
Version = Annotated[str | None, typer.Option("--version", help="Default: the version that has the traffic.")]


@root.app.command("infer")
def infer(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    file: Annotated[Path | None, typer.Argument(help="The input; - reads standard input.")] = None,
    version: Version = None,
    kind: Annotated[
        str | None,
        typer.Option("--as", help="Read the file as this kind: json, npy, text, csv, ... Default: the model's own."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to show per row, for classifiers.")] = 1,
    url: Url = None,
    admin_url: AdminUrl = None,
    as_json: root.AsJson = False,
) -> None:
    """Send one prediction and print the answer: label and score for classifiers, else the values."""
    from gateway.cli import client, wire

    base = client.http_url(url)
    metadata = client.call(base, client.model_path(model, version))
    inputs = tensors(metadata, client_input(client.admin_url(admin_url), model, kind), read(file))
    classified = _classified(client.call(base, client.model_path(model, version, "/config")), top)
    outputs: list[dict[str, Any]] = [
        {"name": spec["name"]}
        | ({"parameters": {"classification": classified[spec["name"]]}} if spec["name"] in classified else {})
        for spec in metadata["outputs"]
        if not classified or spec["name"] in classified
    ]
    body, headers = wire.infer_body(inputs, outputs)
    answer = client.call(base, client.model_path(model, version, "/infer"), body, headers)
    if as_json:
        root.print_json(answer)
    else:
        print("\n".join(wire.readable(answer, classified)))


def tensors(metadata: Mapping[str, Any], client_input: Mapping[str, Any], data: bytes) -> dict[str, tuple[str, Array]]:
    """Featurise a file; return input name -> (datatype, array). Raises Failure naming what does not fit."""
    from gateway.cli import features

    try:
        arrays = features.featurise(client_input, data, metadata["inputs"])
    except features.Unfit as error:
        raise root.Failure(f"the file cannot be made into the inputs of {metadata['name']}: {error}") from None
    datatypes = {spec["name"]: spec["datatype"] for spec in metadata["inputs"]}
    return {name: (datatypes[name], array) for name, array in arrays.items()}


def read(file: Path | None) -> bytes:
    """Return the content of a file or of standard input; raise Failure."""
    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            raise root.Failure("name a file to send, or - and pipe the input in", exit_code=2)
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise root.Failure(f"{file} cannot be read: {error.strerror}") from None


def client_input(admin: str, model: str, kind: str | None) -> Mapping[str, Any]:
    """Find the model's `[client.input]`: from the running gateway, else from the repository beside us."""
    from gateway.cli import client

    reason = f"model {model} has no [client.input]:"
    try:
        answer = client.call(admin, f"/admin/v1/models/{quote(model, safe='')}")
        found: Mapping[str, Any] = answer.get("client_input") or {}
    except root.Failure as failure:
        path = root.settings().settings.model_repository / model / "model.toml"
        found = _from_repository(path)
        if not path.is_file():
            reason = f"the model's [client.input] cannot be found: {failure}; name the admin port by --admin-url, or"
    if kind:
        return {**found, "kind": kind}
    if not found:
        raise root.Failure(f"{reason} say how to read the file, for example --as json")
    return found


def _from_repository(path: Path) -> Mapping[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}
    found: Mapping[str, Any] = table.get("client", {}).get("input", {})
    return found


def _classified(config: Mapping[str, Any], top: int) -> dict[str, int]:
    """Return output name -> k for the outputs that have labels."""
    return {
        output["name"]: min(top, int(output.get("dims", [top])[-1]) if int(output.get("dims", [top])[-1]) > 0 else top)
        for output in config.get("output", [])
        if output.get("label_filename")
    }
