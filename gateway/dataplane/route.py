"""Pick the version that serves the request and hand it to that version's stack."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.errors import GatewayError
from gateway.core.types import InferRequest
from gateway.routing.router import Router


class RouteStage:
    """Reads one table per request: an admin change is seen whole or not at all."""

    def __init__(self, router: Router, on_tightened: Callable[[InferRequest], None] | None = None) -> None:
        self._router = router
        self._on_tightened = on_tightened  # told when the model's own timeout is earlier than the request's

    def __call__(self, request: InferRequest) -> None:
        """Set target, role and reason; NOT_FOUND, NOT_READY or INVALID_ARGUMENT complete the request."""
        table = self._router.table
        try:
            route = table.pick(request.model, request.version)
        except GatewayError as error:
            request.known = table.knows(request.model)
            request.complete(error)
            return
        servable = route.servable
        request.known = True
        request.target = servable
        request.role = route.role
        request.route_reason = route.reason
        timeline = request.timeline
        timeline.routed = timeline.admitted  # same loop callback
        if servable.default_timeout_ns:
            deadline = (timeline.received or timeline.admitted) + servable.default_timeout_ns
            if not request.deadline_ns or deadline < request.deadline_ns:
                request.deadline_ns = deadline
                if self._on_tightened is not None:
                    self._on_tightened(request)
        servable.stack(request)
