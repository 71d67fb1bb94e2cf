"""The admin app: metrics, health of the process, read-only views of the models. Knows no data plane.

Errors are problem documents (RFC 9457) with a `code` beside the standard members.
"""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

import gateway
from gateway.admin.model_views import Models, model_document, models_document

PROBLEM = "application/problem+json"


class MetricsPage(Protocol):
    """Renders the metrics of the whole process."""

    async def scrape(self, accept: str, /) -> tuple[bytes, str]:
        """Return (body, content type) in the form the Accept header asks for."""
        ...


def admin_app(metrics: MetricsPage, models: Models, ready: Callable[[], bool]) -> FastAPI:
    """Build the app. `ready` tells whether the server takes requests."""
    app = FastAPI(
        title="Model Gateway admin", version=gateway.__version__, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    routes = _Routes(metrics, models, ready)
    app.add_api_route("/metrics", routes.metrics, methods=["GET"])
    app.add_api_route("/healthz", routes.health, methods=["GET"])
    app.add_api_route("/admin/v1/models", routes.models, methods=["GET"])
    app.add_api_route("/admin/v1/models/{model}", routes.model, methods=["GET"])
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    return app


class _Routes:
    def __init__(self, metrics: MetricsPage, models: Models, ready: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._models = models
        self._ready = ready

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics: text 0.0.4, OpenMetrics text, or protobuf with native histograms, by Accept."""
        body, content_type = await self._metrics.scrape(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "vary": "accept"})

    async def health(self) -> Response:
        """200 while the process answers; `ready` tells whether inference requests should be sent to it."""
        return _json({"status": "ok", "ready": self._ready(), "version": gateway.__version__})

    async def models(self) -> Response:
        """All models with the states of their versions."""
        return _json(models_document(self._models))

    async def model(self, model: str) -> Response:
        """One model: versions, states with reasons, signature, effective settings, load times, batch costs."""
        document = model_document(self._models, model)
        if document is None:
            raise HTTPException(404, f"model '{model[:128]}' is not in the model repository")
        return _json(document)


def _json(document: Any, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(orjson.dumps(document, default=str), status, media_type=media_type)


def _problem(status: int, detail: str, instance: str) -> Response:
    reason = http.HTTPStatus(status)
    return _json(
        {
            "type": "about:blank",
            "title": reason.phrase,
            "status": status,
            "detail": detail,
            "instance": instance,
            "code": reason.name,
        },
        status,
        PROBLEM,
    )


async def _on_http_error(request: Request, error: Any) -> Response:
    response = _problem(error.status_code, error.detail, request.url.path)
    if "Allow" in (error.headers or {}):
        response.headers["allow"] = error.headers["Allow"]
    return response


async def _on_bug(request: Request, _: Exception) -> Response:
    return _problem(500, "internal error", request.url.path)
