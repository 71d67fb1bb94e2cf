"""What both HTTP doors share: which paths are inferences, headers and body -> request, outcome -> answer. No I/O.

The protocol class (`fast_http`) and the ASGI app (`http`) differ only in how bytes come and go, so the same
request gets the same answer from either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote

import msgspec

from gateway.core.clock import Clock, monotonic_ns
from gateway.core.deadline import tighten, timeout_ms_ns
from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.trace import parse_traceparent
from gateway.core.types import InferRequest, InferResponse, Outcome, ServableVersion
from gateway.protocols import bridge, v1, v2
from gateway.protocols.compression import accepted_encoding
from gateway.protocols.status import http_status
from gateway.protocols.timing import server_timing
from gateway.protocols.v2_known import Decoded

JSON = b"application/json"
OCTETS = b"application/octet-stream"
BRIDGE_PATH = b"/inference.GRPCInferenceService/ModelInfer"

_INFER = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_PREDICT = re.compile(rb"/v1/models/([^/:]+)(?:/(versions|labels)/([^/:]+))?:predict")
_HEADERS = frozenset(
    {
        b"x-request-timeout-ms",
        b"x-envoy-expected-rq-timeout-ms",
        b"traceparent",
        b"x-request-id",
        b"accept-encoding",
        b"x-gateway-timing",
    }
)
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_MAX_CACHED_PATHS = 1024


Body = bytes | bytearray | memoryview


class Target(msgspec.Struct, frozen=True):
    """What a path means: `kind` is v2, v1 or bridge; `label` only in v1."""

    kind: str
    model: str = ""
    version: str = ""
    label: str = ""


NO_TARGET = Target("")
NO_REQUEST = InferRequest("", outcome=GatewayError(Code.INTERNAL, "no request"), finished=True)
"""Stands where there is no request (yet): completing and finishing it does nothing."""


class Call(msgspec.Struct, eq=False):
    """One HTTP inference in progress: the request and what the encoding of its answer depends on."""

    target: Target
    request: InferRequest  # NO_REQUEST until `Exchange.begin`
    error: GatewayError | None = None  # the body could not be decoded
    binary: bool = False
    row_form: bool = False
    timing: bool = False
    encoding: bytes = b""  # content coding the client accepts, "" = none


class HttpAnswer(msgspec.Struct):
    """`headers` is the block of header lines, each ended by CRLF, without content-length and connection."""

    status: int
    headers: bytes
    body: bytes


class InferenceDoor(Protocol):
    """The part of the inference service an HTTP door needs."""

    def infer(self, request: InferRequest) -> None:
        """Serve; the request completes on the loop."""
        ...

    def refuse(self, request: InferRequest, error: GatewayError) -> None:
        """Record and complete a request that could not be decoded."""
        ...

    def servable(self, model: str, version: str) -> ServableVersion:
        """The version that would serve; raises NOT_FOUND, NOT_READY, INVALID_ARGUMENT."""
        ...


class Exchange:
    """Stateless but for a bounded memory of paths."""

    def __init__(self, service: InferenceDoor, max_json_bytes: int = 8 << 20, now: Clock = monotonic_ns) -> None:
        self._service = service
        self._max_json_bytes = max_json_bytes
        self._now = now
        self._paths: dict[bytes, Target | None] = {}

    def match(self, url: bytes) -> Target | None:
        """Say which inference the request target of a POST names; None for everything else."""
        try:
            return self._paths[url]
        except KeyError:
            pass
        target = _match(url.partition(b"?")[0])
        if len(self._paths) >= _MAX_CACHED_PATHS:
            self._paths.clear()
        self._paths[url] = target
        return target

    def begin(self, call: Call, headers: Mapping[bytes, bytes], body: Body, received_ns: int) -> InferRequest:
        """Decode into `call`; never raises: a refusal is in its `error`. Header names are lower case."""
        target = call.target
        try:
            if target.kind == "v2":
                length = headers.get(b"inference-header-content-length")
                request = self._decode_v2(call, target, length, body, received_ns)
            else:
                request = self._decode_other(call, target, headers, body, received_ns)
                request.protocol = target.kind
            if not _HEADERS.isdisjoint(headers):
                self._read_headers(call, request, headers, received_ns)
        except GatewayError as error:
            call.error = error
            request = InferRequest(target.model, target.version)
            if target.kind != "v2":
                request.protocol = target.kind
        call.request = request
        request.bytes_in = len(body)
        timeline = request.timeline
        timeline.received = received_ns
        timeline.decoded = self._now()
        return request

    def dispatch(self, call: Call) -> None:
        """Hand the request inward; the caller has put its own hook on `on_outcome` before."""
        if call.error is None:
            self._service.infer(call.request)
        else:
            self._service.refuse(call.request, call.error)

    def refused(self, target: Target | None, error: GatewayError, received_ns: int) -> None:
        """Record a refusal of bytes that never became a request (too large, too slow, no budget, no HTTP)."""
        request = InferRequest("") if target is None else InferRequest(target.model, target.version)
        if target is not None and target.kind != "v2":
            request.protocol = target.kind
        request.timeline.received = received_ns
        request.timeline.answered = self._now()
        self._service.refuse(request, error)
        request.finish()

    def _decode_v2(
        self, call: Call, target: Target, length: bytes | None, body: Body, received_ns: int
    ) -> InferRequest:
        if length is None:
            if len(body) > self._max_json_bytes:
                self._check_json_size(len(body))
            decoded = v2.decode_request(target.model, target.version, body, None, received_ns)
        else:
            decoded = self._decode_binary(target, length, body, received_ns)
        if decoded.binary:
            call.binary = True
        return decoded.request

    def _decode_other(
        self, call: Call, target: Target, headers: Mapping[bytes, bytes], body: Body, received_ns: int
    ) -> InferRequest:
        if target.kind == "v1":
            self._check_json_size(len(body))
            if target.label:
                raise GatewayError(Code.NOT_FOUND, f"model '{target.model}' has no version label '{target.label}'")
            servable = self._service.servable(target.model, target.version)
            request, call.row_form = v1.decode_predict(servable, body)
            request.version = target.version
            return request
        message = bytes(body) if isinstance(body, memoryview) else body
        return bridge.decode_bridge(headers, message, received_ns)

    def _decode_binary(self, target: Target, length: bytes, body: Body, received_ns: int) -> Decoded:
        if not (length.isdigit() and len(length) < 20):
            raise invalid("header 'Inference-Header-Content-Length' must be a whole number of bytes >= 0")
        self._check_json_size(int(length))
        if int(length) == 0:
            return v2.decode_raw(self._service.servable(target.model, target.version), target.version, body)
        return v2.decode_request(target.model, target.version, body, int(length), received_ns)

    def _check_json_size(self, size: int) -> None:
        if size > self._max_json_bytes:
            raise GatewayError(
                Code.TOO_LARGE,
                f"{size} bytes of JSON are more than {self._max_json_bytes}; send tensors in the binary form "
                "(Inference-Header-Content-Length)",
            )

    def _read_headers(
        self, call: Call, request: InferRequest, headers: Mapping[bytes, bytes], received_ns: int
    ) -> None:
        for field in (b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms"):
            value = headers.get(field)
            if value is not None:
                timeout = timeout_ms_ns(value.decode("latin-1"), field.decode())
                request.deadline_ns = tighten(request.deadline_ns, received_ns + timeout)
        trace = headers.get(b"traceparent")
        if trace is not None:
            request.trace = parse_traceparent(trace.decode("latin-1"))
        request_id = headers.get(b"x-request-id")
        if request_id is not None and _REQUEST_ID.fullmatch(request_id):
            request.request_id = request_id.decode()
        call.timing = headers.get(b"x-gateway-timing", b"0") != b"0"
        accepts = headers.get(b"accept-encoding")
        if accepts is not None:
            call.encoding = accepted_encoding(accepts)

    def answer(self, call: Call, outcome: Outcome) -> HttpAnswer:
        """Encode the outcome and stamp `answered`. An outcome without a form in this protocol becomes an error."""
        request = call.request
        try:
            if type(outcome) is not InferResponse or call.target.kind != "v2":
                answer = self._other_answer(call, outcome)
            else:
                body, header_length = v2.encode_response(request, outcome, binary=call.binary)
                answer = HttpAnswer(200, _head(request, header_length), body)
        except GatewayError as error:
            request.replace_outcome(error)
            answer = self._refusal(request, error)
        request.bytes_out = len(answer.body)
        request.timeline.answered = self._now()
        if call.timing:
            answer.headers += b"server-timing: " + server_timing(request) + b"\r\n"
        return answer

    def _other_answer(self, call: Call, outcome: Outcome) -> HttpAnswer:
        request = call.request
        if call.target.kind == "bridge":
            status, lines, body = bridge.encode_bridge(request, outcome)
            return HttpAnswer(status, b"".join(b"%b: %b\r\n" % line for line in lines), body)
        if isinstance(outcome, GatewayError):
            return self._refusal(request, outcome)
        body = v1.encode_predict(request, outcome, row_form=call.row_form)
        return HttpAnswer(200, _head(request, None), body)

    def _refusal(self, request: InferRequest, error: GatewayError) -> HttpAnswer:
        head = _head(request, None)
        if error.retry_after_s is not None:
            head += b"retry-after: %d\r\n" % error.retry_after_s
        return HttpAnswer(http_status(error.code), head, v2.error_body(error))


def _match(path: bytes) -> Target | None:
    if path == BRIDGE_PATH:
        return Target("bridge")
    match = _INFER.fullmatch(path)
    if match is not None:
        return Target("v2", _text(match[1]), _text(match[2]))
    match = _PREDICT.fullmatch(path)
    if match is not None:
        name, kind, value = _text(match[1]), match[2], _text(match[3])
        return Target("v1", name, "" if kind == b"labels" else value, value if kind == b"labels" else "")
    return None


def _text(part: bytes | None) -> str:
    return "" if part is None else unquote(part.decode("latin-1"), errors="replace")[:1024]


def _head(request: InferRequest, header_length: int | None) -> bytes:
    """Header lines of an answer: kept per version and route, because they repeat on every answer."""
    target = request.target
    if target is None:
        head = b"content-type: application/json\r\n"
    else:
        head = target.memo.get(request.route_reason) or _remember(target, request.route_reason)
    if header_length is not None:
        head = head.replace(JSON, OCTETS, 1) + b"inference-header-content-length: %d\r\n" % header_length
    if request.request_id:
        head += b"x-request-id: %b\r\n" % request.request_id.encode()
    return head


def _remember(target: ServableVersion, reason: str) -> bytes:
    head = b"content-type: application/json\r\nx-gateway-version: %b\r\nx-gateway-route: %b\r\n" % (
        target.version.encode(),
        reason.encode("ascii", "replace"),
    )
    if len(target.memo) < 512:
        target.memo[reason] = head
    return head
