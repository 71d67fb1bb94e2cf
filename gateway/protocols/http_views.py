"""The read-only HTTP routes of V2 (Open Inference Protocol and Triton's extensions) and V1 (TensorFlow Serving)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import orjson
from fastapi import HTTPException, Request, Response

from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.oip import model_config_pb2, service_pb2
from gateway.core.types import IndexEntry, ModelMetadata
from gateway.protocols.proto_json import plain
from gateway.protocols.v1_views import metadata_document, status_document
from runtimes.base import TensorSpec

# Only what exists. `model_repository` promises load and unload, of which there is only the index;
# `schedule_policy` promises priorities.
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")

_MAX_INDEX_BODY = 64 << 10

_NO_CONTROL = "explicit model load / unload is not allowed: the server's model control mode is not EXPLICIT"


class Views(Protocol):
    """The part of the inference service the read-only routes need. Unknown models raise GatewayError(NOT_FOUND)."""

    def server_live(self) -> bool:
        """The process serves."""
        ...

    def server_ready(self) -> bool:
        """Requests may be sent."""
        ...

    def model_ready(self, name: str, version: str, /) -> bool:
        """Requests for this model (and version) may be sent."""
        ...

    def metadata(self, name: str, version: str, /) -> ModelMetadata:
        """Signature and platform."""
        ...

    def config(self, name: str, version: str, /) -> model_config_pb2.ModelConfig:
        """Effective configuration."""
        ...

    def statistics(self, name: str, version: str, /) -> list[service_pb2.ModelStatistics]:
        """Counts since the start; "" = all."""
        ...

    def index(self, ready_only: bool, /) -> list[IndexEntry]:
        """What the repository holds."""
        ...


class View(NamedTuple):
    """One route: `documented` ones are in the OpenAPI document."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    documented: bool = True


def views(service: Views, name: str, version: str) -> list[View]:
    """Return all routes, the more specific paths first. `name` and `version` are the server's."""
    v2 = _V2(service, name, version)
    v1 = _V1(service)
    return [
        View("GET", "/v2", v2.server_metadata),
        View("GET", "/v2/health/live", v2.live),
        View("GET", "/v2/health/ready", v2.ready),
        View("GET", "/v2/models/stats", v2.all_statistics),
        View("POST", "/v2/repository/index", v2.index),
        View(
            "POST",
            "/v2/repository/{repository}/index",
            _refuse("'repository_name' specification is not supported"),
            False,
        ),
        *_per_version("/v2", "", v2.metadata),
        *_per_version("/v2", "/ready", v2.model_ready),
        *_per_version("/v2", "/config", v2.config),
        *_per_version("/v2", "/stats", v2.statistics),
        *_per_version("/v1", "", v1.status),
        *_per_version("/v1", "/metadata", v1.metadata),
        View("GET", "/v1/models/{model}/labels/{label}", v1.label, False),
        View("GET", "/v1/models/{model}/labels/{label}/metadata", v1.label, False),
        *_refusals(),
    ]


def _per_version(root: str, suffix: str, read: Callable[[str, str], Response]) -> list[View]:
    """Make two routes of one view: for the version the gateway chooses, and for a named one."""

    async def chosen(model: str) -> Response:
        return read(model, "")

    async def named(model: str, version: str) -> Response:
        return read(model, version)

    for endpoint in (chosen, named):
        endpoint.__name__ = read.__name__
        endpoint.__doc__ = read.__doc__
    return [
        View("GET", f"{root}/models/{{model}}{suffix}", chosen),
        View("GET", f"{root}/models/{{model}}/versions/{{version}}{suffix}", named),
    ]


def answer(document: Any, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(document), status, media_type="application/json")


class _V2:
    def __init__(self, service: Views, name: str, version: str) -> None:
        self._service = service
        self._server = {"name": name, "version": version, "extensions": list(EXTENSIONS)}

    async def server_metadata(self) -> Response:
        """Name, version and protocol extensions of this server."""
        return answer(self._server)

    async def live(self) -> Response:
        """200 while the server can answer at all."""
        live = self._service.server_live()
        return answer({"live": live}, 200 if live else 503)

    async def ready(self) -> Response:
        """200 while requests should be sent here, else 503."""
        ready = self._service.server_ready()
        return answer({"ready": ready}, 200 if ready else 503)

    def model_ready(self, model: str, version: str) -> Response:
        """200 while the model (or the version) serves, 503 while it does not, 404 where it is unknown."""
        ready = self._service.model_ready(model, version)
        return answer({"name": model, "ready": ready}, 200 if ready else 503)

    def metadata(self, model: str, version: str) -> Response:
        """Inputs, outputs, versions and platform of a model."""
        known = self._service.metadata(model, version)
        document: dict[str, Any] = {
            "name": known.name,
            "versions": list(known.versions),
            "platform": known.platform,
            "inputs": [_tensor(spec) for spec in known.signature.inputs],
            "outputs": [_tensor(spec) for spec in known.signature.outputs],
        }
        if known.parameters:
            document["parameters"] = dict(known.parameters)
        return answer(document)

    def config(self, model: str, version: str) -> Response:
        """Effective model configuration in Triton's terms."""
        return answer(plain(self._service.config(model, version)))

    def statistics(self, model: str, version: str) -> Response:
        """Cumulative counts and durations of one model."""
        return answer({"model_stats": [plain(message) for message in self._service.statistics(model, version)]})

    async def all_statistics(self) -> Response:
        """Cumulative counts and durations of all models."""
        return self.statistics("", "")

    async def index(self, request: Request) -> Response:
        """Models and versions of the repository with their states. The body may be `{"ready": true}`."""
        entries = self._service.index(_ready_only(await _small_body(request)))
        return answer([_entry(entry) for entry in entries])


class _V1:
    def __init__(self, service: Views) -> None:
        self._service = service

    def status(self, model: str, version: str) -> Response:
        """States of a model's versions, in TensorFlow Serving's form."""
        _no_verb(version or model)
        known = [entry for entry in self._service.index(False) if entry.name == model]
        entries = [entry for entry in known if version in ("", entry.version)]
        if not entries:
            which = f" version {version[:64]}" if known else ""
            raise GatewayError(Code.NOT_FOUND, f"Request for unknown model: '{model[:256]}'{which} is not found")
        return answer(status_document(entries))

    def metadata(self, model: str, version: str) -> Response:
        """Signature of a model, in TensorFlow Serving's form."""
        return answer(metadata_document(self._service.metadata(model, version), version))

    async def label(self, model: str, label: str) -> Response:
        """Answer 404: no version has a label."""
        _no_verb(label)
        raise GatewayError(Code.NOT_FOUND, f"model '{model[:256]}' has no version label '{label[:64]}'")


def _no_verb(name: str) -> None:
    """Names and versions have no colon, so this is a GET of `/v1/models/m:predict`."""
    if ":" in name:
        raise HTTPException(405, headers={"Allow": "POST"})


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _entry(entry: IndexEntry) -> dict[str, str]:
    """Leave out what is not known, as Triton does: a version never asked for has no state."""
    known = {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
    return {key: value for key, value in known.items() if value or key == "name"}


async def _small_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_INDEX_BODY:
            raise GatewayError(Code.TOO_LARGE, f"the request body is larger than {_MAX_INDEX_BODY} bytes")
    return bytes(body)


def _ready_only(body: bytes) -> bool:
    if not body.strip():
        return False
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the request body is not valid JSON: {error.msg} at byte {error.pos}") from None
    ready = document.get("ready", False) if isinstance(document, dict) else None
    if not isinstance(ready, bool):
        raise invalid("the request body must be a JSON object whose 'ready' is true or false")
    return ready


def _refuse(message: str) -> Callable[[], Any]:
    async def refuse() -> Response:
        raise GatewayError(Code.UNIMPLEMENTED, message)

    return refuse


def _refusals() -> list[View]:
    """Return routes of other servers that do not exist here: a clear 501, where a 404 would look like a mistake."""
    posts = {
        "/v2/repository/{rest:path}/load": _NO_CONTROL,
        "/v2/repository/{rest:path}/unload": _NO_CONTROL,
        **dict.fromkeys(_both("/v2", "/generate"), "the generate extension is not supported: use infer"),
        **dict.fromkeys(_both("/v2", "/generate_stream"), "the generate extension is not supported: use infer"),
        **dict.fromkeys(_both("/v1", ":classify"), "the method ':classify' is not supported: use ':predict'"),
        **dict.fromkeys(_both("/v1", ":regress"), "the method ':regress' is not supported: use ':predict'"),
    }
    any_method = {
        "/v2/logging": "the logging extension is not supported",
        "/v2/trace/setting": "the trace extension is not supported",
        "/v2/models/{model}/trace/setting": "the trace extension is not supported",
        "/v2/systemsharedmemory/{rest:path}": "system shared memory is not supported",
        "/v2/cudasharedmemory/{rest:path}": "CUDA shared memory is not supported",
    }
    return [
        *(View("POST", path, _refuse(why), False) for path, why in {**posts, **any_method}.items()),
        *(View("GET", path, _refuse(why), False) for path, why in any_method.items()),
    ]


def _both(root: str, suffix: str) -> tuple[str, str]:
    return f"{root}/models/{{model}}{suffix}", f"{root}/models/{{model}}/versions/{{version}}{suffix}"
