"""The ASGI door: health, metadata, configuration, statistics, index, V1 views, and inference off the hot path.

Every error is `{"error": "..."}`. Routes are FastAPI's, so that there is an OpenAPI document; inferences pass it by.
"""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import gateway
from gateway.core.errors import GatewayError
from gateway.protocols.exchange import Exchange, InferenceDoor
from gateway.protocols.http_door import Budget
from gateway.protocols.http_infer import InferEndpoint, Receive, Scope, Send
from gateway.protocols.http_settings import HttpSettings
from gateway.protocols.http_views import Views, answer, views
from gateway.protocols.status import http_status

SERVER_NAME = "model-gateway"

_INFER_PATHS = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
_PREDICT_PATHS = ("/v1/models/{model}:predict", "/v1/models/{model}/versions/{version}:predict")


class HttpService(Views, InferenceDoor, Protocol):
    """What this door needs of the inference service."""

    @property
    def byte_budget(self) -> Budget:
        """Request bytes in flight, shared by all doors."""
        ...


def http_app(service: HttpService, exchange: Exchange, settings: HttpSettings, *, docs: bool = False) -> FastAPI:
    """Build the app. `docs` adds FastAPI's interactive pages, which load scripts from the internet."""
    app = _App(InferEndpoint(exchange, service.byte_budget, settings), exchange, docs=docs)
    for view in views(service, SERVER_NAME, gateway.__version__):
        app.add_api_route(view.path, view.endpoint, methods=[view.method], include_in_schema=view.documented)
    _document_inference(app)
    app.add_exception_handler(GatewayError, _on_gateway_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_exception_handler(Exception, _on_bug)
    return app


class _App(FastAPI):
    """FastAPI, but inferences go to their endpoint and HEAD is GET without a body (RFC 9110 9.3.2)."""

    def __init__(self, infer: InferEndpoint, exchange: Exchange, *, docs: bool) -> None:
        super().__init__(
            title="Model Gateway",
            version=gateway.__version__,
            docs_url="/docs" if docs else None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self._infer = infer
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        method = scope.get("method")
        if method == "POST":
            target = self._exchange.match(scope["raw_path"])
            if target is not None:
                await self._infer(target, scope, receive, send)
                return
        elif method == "HEAD":
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await super().__call__(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def wrapped(message: Any) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return wrapped


def _document_inference(app: FastAPI) -> None:
    """Put the inference routes into the OpenAPI document, and into the router so that a GET of them is a 405."""
    tensors = {"type": "object", "description": "Open Inference Protocol tensors; or octets in the binary form."}
    rows = {"type": "object", "description": "`instances` (rows) or `inputs` (columns)."}
    for paths, endpoint, schema in ((_INFER_PATHS, infer, tensors), (_PREDICT_PATHS, predict, rows)):
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        for path in paths:
            parameters = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in ("model", "version")
                if f"{{{name}}}" in path
            ]
            extra = {"requestBody": body, "parameters": parameters}
            app.add_api_route(path, endpoint, methods=["POST"], openapi_extra=extra)
    app.add_api_route("/v1/models/{model}/labels/{label}:predict", predict, methods=["POST"], include_in_schema=False)


async def infer() -> Response:
    """Run one inference. (The app answers matching paths before routing; what comes here has a name it never has.)"""
    raise HTTPException(404)


async def predict() -> Response:
    """Run one inference in TensorFlow Serving's form."""
    raise HTTPException(404)


async def _on_gateway_error(_: Request, error: Any) -> Response:
    response = answer({"error": error.message}, http_status(error.code))
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


async def _on_http_error(_: Request, error: Any) -> Response:
    response = answer({"error": error.detail}, error.status_code)
    allow = (error.headers or {}).get("Allow")
    if allow is not None:
        response.headers["allow"] = f"{allow}, HEAD" if allow == "GET" else allow
    return response


async def _on_client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; unhandled, each would be a traceback in the log


async def _on_bug(_: Request, __: Exception) -> Response:
    return answer({"error": "internal error"}, 500)
