"""One inference call as every gRPC transport sees it: bytes and metadata in, bytes or a status and trailers out."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterable
from typing import Any, Protocol

from gateway.core.clock import NS_PER_S, Clock, monotonic_ns
from gateway.core.deadline import tighten, timeout_ms_ns
from gateway.core.errors import Code, GatewayError
from gateway.core.oip import model_config_pb2, service_pb2
from gateway.core.trace import parse_traceparent
from gateway.core.types import IndexEntry, InferRequest, InferResponse, ModelMetadata
from gateway.protocols import v2_pb

Metadata = tuple[tuple[str, str], ...]
GivenMetadata = Iterable[tuple[str, Any]]
"""As received: values of keys in `-bin` are bytes, all others are text."""

MAX_REQUEST_ID = 128

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


class InferCalls:
    """Decodes, starts and encodes inference calls. One object per door; used on the event loop only."""

    def __init__(self, service: Service, now: Clock = monotonic_ns) -> None:
        self.service = service
        self._budget = service.byte_budget
        self._now = now
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)

    def begin(self, raw: bytes, metadata: GivenMetadata, remaining_s: float | None) -> InferRequest:
        """Decode one call and account for its bytes until it is finished; raise GatewayError (nothing held then).

        `remaining_s` is what is left of the call's own deadline, None = it has none.
        """
        now = self._now()
        size = len(raw)
        if not self._budget.take(size):
            raise GatewayError(Code.OVERLOADED, "too many request bytes in flight", retry_after_s=1)
        try:
            request = v2_pb.decode_infer(v2_pb.parse_infer(raw), now)
            self._apply(request, metadata, now)
        except BaseException:
            self._budget.give(size)
            raise
        if remaining_s is not None:
            request.deadline_ns = tighten(request.deadline_ns, now + int(remaining_s * NS_PER_S))
        request.bytes_in = size
        # Added first, so it runs last: the bytes are held for as long as an observer may look at the arrays.
        request.on_finished.append(self._release)
        timeline = request.timeline
        timeline.received = now
        timeline.decoded = self._now()
        return request

    def encode(self, request: InferRequest, response: InferResponse) -> bytes:
        """Serialise an answer and stamp it; raise GatewayError(INTERNAL) where that fails."""
        try:
            body: bytes = v2_pb.encode_infer(request, response).SerializeToString()
        except Exception as error:
            raise self._unencodable(request, error) from error
        request.bytes_out += len(body)
        request.timeline.answered = self._now()
        return body

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

    def _apply(self, request: InferRequest, metadata: GivenMetadata, now: int) -> None:
        for key, value in metadata:
            if key == "x-request-id":
                if len(value) <= MAX_REQUEST_ID:
                    request.request_id = value
            elif key == "traceparent":
                request.trace = parse_traceparent(value)
            elif key == "x-request-timeout-ms":
                request.deadline_ns = tighten(request.deadline_ns, now + timeout_ms_ns(value, key))
        if not request.request_id:
            request.request_id = f"{self._id_prefix}-{next(self._ids):x}"

    def _release(self, request: InferRequest) -> None:
        self._budget.give(request.bytes_in)

    @staticmethod
    def _unencodable(request: InferRequest, error: Exception) -> GatewayError:
        _LOG.error("answer of model %s cannot be encoded: %r", request.model, error)
        return GatewayError(Code.INTERNAL, f"the answer of model '{request.model}' cannot be encoded")


def trailers(request: InferRequest) -> Metadata:
    """Return the trailing metadata of an inference call."""
    target = request.target
    if target is None:
        return (("x-request-id", request.request_id),)
    return (("x-request-id", request.request_id), ("x-gateway-version", target.version))


def error_trailers(error: GatewayError, request: InferRequest | None = None) -> Metadata:
    """Return the trailing metadata of a failed call: `retry-after` in seconds where waiting helps."""
    common = () if request is None else trailers(request)
    if error.retry_after_s is None:
        return common
    return (*common, ("retry-after", str(error.retry_after_s)))


def as_gateway_error(error: Exception) -> GatewayError:
    """Return what the client is told of an exception; one that nobody foresaw is logged and told as INTERNAL."""
    if isinstance(error, GatewayError):
        return error
    _LOG.exception("gRPC call failed", exc_info=error)
    return GatewayError(Code.INTERNAL, "internal error")
