"""One inference call as every gRPC transport sees it: bytes and metadata in, bytes or a status and trailers out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from gateway.core.clock import NS_PER_S, Clock, monotonic_ns
from gateway.core.deadline import tighten, timeout_ms_ns
from gateway.core.errors import Code, GatewayError
from gateway.core.oip import model_config_pb2, service_pb2
from gateway.core.trace import parse_traceparent
from gateway.core.types import IndexEntry, InferRequest, InferResponse, ModelMetadata
from gateway.protocols import v2_pb, v2_wire
from gateway.protocols.timing import server_timing

Metadata = tuple[tuple[str, str], ...]
GivenMetadata = Iterable[tuple[str, Any]]
"""As received: values of keys in `-bin` are bytes, all others are text."""

MAX_MEMO = 512

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_KEYS = frozenset(
    {"x-request-id", "traceparent", "x-gateway-timing", "x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms"}
)
_UNANSWERED = GatewayError(Code.INTERNAL, "internal error")
_OVER_BUDGET = GatewayError(Code.OVERLOADED, "too many request bytes in flight", retry_after_s=1)

_LOG = logging.getLogger(__name__)


class ByteBudget(Protocol):
    """Request bytes in flight, shared by all doors of the process."""

    def take(self, count: int, /) -> bool:
        """Reserve `count` bytes; False = refused, nothing reserved."""
        ...

    def give(self, count: int, /) -> None:
        """Return what was reserved."""
        ...


class Service(Protocol):
    """What the gRPC door asks of the data plane. Unknown or unloaded models raise GatewayError."""

    @property
    def byte_budget(self) -> ByteBudget:
        """The process's budget of request bytes."""
        ...

    def infer(self, request: InferRequest, /) -> None:
        """Start; the request's hooks tell its outcome. Never raises."""
        ...

    def refuse(self, request: InferRequest, error: GatewayError, /) -> None:
        """Record and complete a request that could not be decoded."""
        ...

    def server_live(self) -> bool:
        """Answer whether the loop turns."""
        ...

    def server_ready(self) -> bool:
        """Answer whether requests should be sent here."""
        ...

    def model_ready(self, name: str, version: str, /) -> bool:
        """Answer whether a version ("" = any) serves."""
        ...

    def metadata(self, name: str, version: str, /) -> ModelMetadata:
        """Describe a version."""
        ...

    def config(self, name: str, version: str, /) -> model_config_pb2.ModelConfig:
        """Return a version's effective configuration."""
        ...

    def statistics(self, name: str, version: str, /) -> list[service_pb2.ModelStatistics]:
        """Return the counters of one version, one model or ("") all."""
        ...

    def index(self, ready_only: bool, /) -> list[IndexEntry]:
        """List the repository."""
        ...


class Call(msgspec.Struct, eq=False):
    """One inference call: its request, the error that refused it before it was one, and what its answer carries."""

    request: InferRequest
    error: GatewayError | None = None
    timing: bool = False


class InferCalls:
    """Decodes, starts and encodes inference calls. One object per door; used on the event loop only."""

    def __init__(self, service: Service, now: Clock = monotonic_ns) -> None:
        self.service = service
        self._budget = service.byte_budget
        self._now = now

    def begin(self, raw: bytes, metadata: GivenMetadata, remaining_s: float | None) -> Call:
        """Decode one call and hold its bytes in the budget until it is finished; never raises.

        `remaining_s` is what is left of the call's own deadline, None = it has none.
        """
        now = self._now()
        size = len(raw)
        held = self._budget.take(size)
        call = self._decode(raw, now) if held else _refused("", "", _OVER_BUDGET)
        request = call.request
        if held:
            request.bytes_in = size
            # Added first, so it runs last: the bytes are held for as long as an observer may look at the arrays.
            request.on_finished.append(self._release)
        if remaining_s is not None:
            request.deadline_ns = tighten(request.deadline_ns, now + int(remaining_s * NS_PER_S))
        try:
            _read_metadata(call, metadata, now)
        except GatewayError as error:
            call.error = call.error or error
        timeline = request.timeline
        timeline.received = now
        timeline.decoded = self._now()
        return call

    def dispatch(self, call: Call) -> None:
        """Hand the request inward; the caller has put its own hook on `on_outcome` before."""
        if call.error is None:
            self.service.infer(call.request)
        else:
            self.service.refuse(call.request, call.error)

    def encode(self, request: InferRequest) -> bytes | GatewayError:
        """Serialise the outcome and stamp it; an answer that cannot be encoded becomes the error returned."""
        outcome = request.outcome
        result: bytes | GatewayError
        if isinstance(outcome, InferResponse):
            try:
                body = v2_wire.encode_body(request, outcome)
                request.bytes_out += len(body)
                result = body
            except Exception as error:
                result = self._unencodable(request, error)
                request.replace_outcome(result)
        else:
            result = _UNANSWERED if outcome is None else outcome
        request.timeline.answered = self._now()
        return result

    def encode_part(self, request: InferRequest, response: InferResponse, *, final: bool | None) -> Any:
        """Build one ModelStreamInferResponse; `final` is told to the client where it is not None."""
        try:
            message = service_pb2.ModelStreamInferResponse(infer_response=v2_pb.encode_infer(request, response))
        except Exception as error:
            raise self._unencodable(request, error) from error
        if final is not None:
            message.infer_response.parameters["triton_final_response"].bool_param = final
        request.bytes_out += message.ByteSize()
        request.timeline.answered = self._now()
        return message

    def cancel(self, request: InferRequest) -> None:
        """Complete a call nobody waits for any more, so that its queued work is dropped, and report it."""
        late = 0 < request.deadline_ns <= self._now()
        if late:
            request.fail(Code.DEADLINE, "Request timeout expired")
        else:
            request.fail(Code.CANCELLED, "the client cancelled the request")
        request.finish()

    def _decode(self, raw: bytes, now: int) -> Call:
        try:
            return Call(v2_wire.decode_body(raw, now))
        except GatewayError as error:
            return _refused_message(raw, error)

    def _release(self, request: InferRequest) -> None:
        self._budget.give(request.bytes_in)

    @staticmethod
    def _unencodable(request: InferRequest, error: Exception) -> GatewayError:
        _LOG.error("answer of model %s cannot be encoded: %r", request.model, error)
        return GatewayError(Code.INTERNAL, f"the answer of model '{request.model}' cannot be encoded")


def trailers(call: Call, error: GatewayError | None = None) -> Metadata:
    """Return the trailing metadata of an inference call; `error` is how it failed."""
    request = call.request
    metadata = _served_by(request)
    if request.request_id:
        metadata = (*metadata, ("x-request-id", request.request_id))
    if call.timing:
        metadata = (*metadata, ("server-timing", server_timing(request).decode()))
    return metadata if error is None else (*metadata, *error_trailers(error))


def error_trailers(error: GatewayError) -> Metadata:
    """Return the trailing metadata of a failure: `retry-after` in seconds where waiting helps."""
    return () if error.retry_after_s is None else (("retry-after", str(error.retry_after_s)),)


def _served_by(request: InferRequest) -> Metadata:
    """Return what names the version and the route: kept per version, because it repeats on every answer."""
    target = request.target
    if target is None:
        return ()
    key = ("grpc_trailers", request.route_reason)
    metadata: Metadata | None = target.memo.get(key)
    if metadata is None:
        metadata = (("x-gateway-version", target.version),)
        if request.route_reason:
            metadata = (*metadata, ("x-gateway-route", request.route_reason.encode("ascii", "replace").decode()))
        if len(target.memo) < MAX_MEMO:
            target.memo[key] = metadata
    return metadata


def _refused_message(raw: bytes, error: GatewayError) -> Call:
    """Build the call for a message that was refused; model and id are told where they can be read."""
    try:
        message = v2_pb.parse_infer(raw)
    except GatewayError:
        return _refused("", "", error)
    return _refused(message.model_name, message.id, error)


def _refused(model: str, client_id: str, error: GatewayError) -> Call:
    return Call(InferRequest(model=model[: v2_pb.MAX_NAME], id=client_id, protocol="grpc"), error)


def _read_metadata(call: Call, metadata: GivenMetadata, now: int) -> None:
    request = call.request
    for key, value in metadata:
        if key not in _KEYS:
            continue
        if key == "x-request-id":
            if _REQUEST_ID.fullmatch(value):
                request.request_id = value
        elif key == "traceparent":
            request.trace = parse_traceparent(value)
        elif key == "x-gateway-timing":
            call.timing = value != "0"
        else:
            request.deadline_ns = tighten(request.deadline_ns, now + timeout_ms_ns(value, key))


def as_gateway_error(error: Exception) -> GatewayError:
    """Return what the client is told of an exception; one that nobody foresaw is logged and told as INTERNAL."""
    if isinstance(error, GatewayError):
        return error
    _LOG.exception("gRPC call failed", exc_info=error)
    return GatewayError(Code.INTERNAL, "internal error")
