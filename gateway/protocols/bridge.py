"""ModelInfer as plain protobuf over HTTP/1.1: what Envoy's grpc_http1_reverse_bridge sends and wants. Pure.

deploy/envoy/bridge.yaml is the other half. What cannot cross: streams, compressed messages, and trailing metadata
(x-request-id and the like arrive as initial metadata).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import quote

from gateway.core.deadline import grpc_timeout_ns, tighten
from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, Outcome
from gateway.protocols.status import grpc_status, http_status
from gateway.protocols.v2_wire import decode_body, encode_body

PROTOBUF = b"application/x-protobuf"
_BRIDGE_TYPES = (PROTOBUF, b"application/protobuf")
_MAX_MESSAGE = 2048
# gRPC over HTTP/2, "Percent-Encoded": printable ASCII but "%" stands for itself.
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_LOG = logging.getLogger(__name__)


def decode_bridge(headers: Mapping[bytes, bytes], body: bytes | bytearray, now_ns: int) -> InferRequest:
    """Read a ModelInfer that came as plain protobuf over HTTP/1.1, as Envoy's grpc_http1_reverse_bridge sends it.

    Of the headers (lower-case names) it reads what is gRPC's own: `content-type`, `grpc-encoding`, `grpc-timeout`.
    Raises INVALID_ARGUMENT, or UNSUPPORTED_MEDIA for a body that is not plain protobuf.
    """
    content_type = headers.get(b"content-type", PROTOBUF).partition(b";")[0].strip().lower()
    if content_type not in _BRIDGE_TYPES:
        got = content_type[:64].decode("latin-1")
        raise GatewayError(Code.UNSUPPORTED_MEDIA, f"content-type must be application/x-protobuf, got {got!r}")
    # The bridge drops the frame's flag that tells whether this one message is compressed.
    if headers.get(b"grpc-encoding", b"identity") != b"identity":
        raise GatewayError(Code.UNSUPPORTED_MEDIA, "compressed gRPC messages cannot cross the HTTP/1.1 bridge")
    request = decode_body(body, now_ns)
    timeout = headers.get(b"grpc-timeout")
    if timeout is not None:
        request.deadline_ns = tighten(request.deadline_ns, now_ns + grpc_timeout_ns(timeout.decode("latin-1")))
    return request


def encode_bridge(request: InferRequest, outcome: Outcome) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return HTTP status, headers (without content-length) and body for the reverse bridge; never raises.

    The bridge only knows the HTTP status; the true gRPC status and message ride in headers that Envoy's
    configuration (deploy/envoy/bridge.yaml) writes into the trailers.
    """
    headers = [(b"content-type", PROTOBUF)]
    if request.request_id:
        headers.append((b"x-request-id", request.request_id.encode()))
    target = request.target
    if target is not None:
        headers.append((b"x-gateway-version", target.version.encode()))
        if request.route_reason:
            headers.append((b"x-gateway-route", request.route_reason.encode("ascii", "replace")))
    if not isinstance(outcome, GatewayError):
        try:
            return 200, headers, encode_body(request, outcome)
        except Exception as error:
            _LOG.error("answer of model %s cannot be encoded: %r", request.model, error)
            outcome = GatewayError(Code.INTERNAL, f"the answer of model '{request.model}' cannot be encoded")
            request.replace_outcome(outcome)
    headers.append((b"x-gateway-grpc-status", b"%d" % grpc_status(outcome.code)))
    headers.append((b"x-gateway-grpc-message", quote(outcome.message[:_MAX_MESSAGE], safe=_SAFE).encode()))
    if outcome.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % outcome.retry_after_s))
    return http_status(outcome.code), headers, b""
