"""gRPC on grpc.aio: complete (TLS, connection age, compression) and the default.

Handlers take and return bytes, and an inference call costs one future: grpc.aio itself costs ten times what is
done here, so nothing may be added to it (docs: hot path).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from gateway.core.clock import NS_PER_MS
from gateway.core.errors import GatewayError
from gateway.core.types import InferRequest, Outcome
from gateway.protocols.grpc_calls import InferCalls, as_gateway_error, error_trailers, trailers
from gateway.protocols.grpc_settings import GrpcSettings
from gateway.protocols.grpc_stream import InferStream, stream_error
from gateway.protocols.grpc_unary import HEALTH_SERVICE, INFERENCE_SERVICE, UnaryMethod, health_status, unary_methods
from gateway.protocols.status import grpc_status

HEALTH_POLL_S = 0.5
_HURRY_NS = 10 * NS_PER_MS
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_UnaryHandler = Callable[[bytes, Any], Coroutine[Any, Any, bytes]]


class AioTransport:
    """The complete servicer on a grpc.aio server. `start` and `stop` are called once each, on the serving loop."""

    def __init__(
        self, calls: InferCalls, settings: GrpcSettings, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self._calls = calls
        self._settings = settings
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None
        self._stopping = asyncio.Event()
        self._streams: set[InferStream] = set()

    async def start(self, address: str) -> int:
        """Listen on `host:port` or `unix:path` and return the bound port; raise OSError where that fails."""
        server = grpc.aio.server(options=_channel_arguments(self._settings))
        for service, handlers in self._handlers().items():
            server.add_registered_method_handlers(service, handlers)
        reflection.enable_server_reflection((INFERENCE_SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
        try:
            if self._credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {address}") from error
        await server.start()
        self._server = server
        return int(port)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls (GOAWAY), let calls in flight finish within `grace_s`, then cancel them.

        Streams end when what was read of them is answered: a busy one would else last until it is cancelled.
        """
        self._stopping.set()
        for stream in self._streams:
            stream.drain()
        if self._server is not None:
            await self._server.stop(grace_s)

    def _handlers(self) -> dict[str, dict[str, Any]]:
        table: dict[str, dict[str, Any]] = {INFERENCE_SERVICE: {}, HEALTH_SERVICE: {}}
        for path, method in unary_methods(self._calls.service).items():
            service, name = path[1:].split("/")
            table[service][name] = grpc.unary_unary_rpc_method_handler(_unary(method))
        table[INFERENCE_SERVICE]["ModelInfer"] = grpc.unary_unary_rpc_method_handler(model_infer(self._calls))
        table[INFERENCE_SERVICE]["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer, response_serializer=_serialize
        )
        table[HEALTH_SERVICE]["Watch"] = grpc.unary_stream_rpc_method_handler(
            self._watch, health_pb2.HealthCheckRequest.FromString, _serialize
        )
        return table

    async def _stream_infer(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        stream = InferStream(self._calls, context.invocation_metadata(), context.time_remaining())
        answers = stream.answers(messages)
        self._streams.add(stream)
        if self._stopping.is_set():
            stream.drain()
        try:
            async for answer in answers:
                yield answer
        except Exception as error:
            failure = stream_error(error)
            await _abort(context, failure, error_trailers(failure))
        finally:
            self._streams.discard(stream)
            await answers.aclose()  # type: ignore[attr-defined]

    async def _watch(self, message: Any, _context: Any) -> AsyncIterator[Any]:
        """Send the health whenever it changes; the service says SERVICE_UNKNOWN, not an error (health.proto)."""
        last = None
        while not self._stopping.is_set():
            status = health_status(self._calls.service, message.service)
            if status is None:
                status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            try:
                async with asyncio.timeout(HEALTH_POLL_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)


def model_infer(calls: InferCalls) -> _UnaryHandler:
    """Return the ModelInfer handler: the callback contract of the data plane behind one future."""
    loop = asyncio.get_running_loop()

    async def handle(raw: bytes, context: Any) -> bytes:
        call = calls.begin(raw, context.invocation_metadata(), context.time_remaining())
        request = call.request
        # grpc.aio wakes the loop for every call: a mean batch of 1.1 with 32 in flight. Who is in a hurry never waits.
        request.trickles = not 0 < request.deadline_ns < request.timeline.received + _HURRY_NS
        calls.dispatch(call)
        if request.outcome is None:
            done = loop.create_future()
            request.on_outcome.insert(0, functools.partial(_wake, done))
            try:
                await done
            except asyncio.CancelledError:
                calls.cancel(request)
                raise
        # After this coroutine has handed the answer to the transport: observers and mirrors come second.
        loop.call_soon(request.finish)
        answer = calls.encode(request)
        if isinstance(answer, bytes):
            context.set_trailing_metadata(trailers(call))
            return answer
        await _abort(context, answer, trailers(call, answer))
        return b""

    return handle


def _wake(done: asyncio.Future[None], _request: InferRequest, _outcome: Outcome) -> None:
    if not done.done():
        done.set_result(None)


async def _abort(context: Any, error: GatewayError, metadata: tuple[tuple[str, str], ...]) -> None:
    await context.abort(_CODES[grpc_status(error.code)], error.message, metadata)


def _unary(method: UnaryMethod) -> _UnaryHandler:
    async def handle(raw: bytes, context: Any) -> bytes:
        try:
            return method.call(raw)
        except Exception as error:
            failure = as_gateway_error(error)
            await _abort(context, failure, error_trailers(failure))
            return b""

    return handle


def _serialize(message: Any) -> bytes:
    body: bytes = message.SerializeToString()
    return body


def _channel_arguments(settings: GrpcSettings) -> list[tuple[str, int]]:
    arguments = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.so_reuseport", int(settings.reuse_port)),
        # Clients that ping every 10 s keep their connection; the default ends it with ENHANCE_YOUR_CALM below 5 min.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if settings.max_connection_age_ms:
        # gRPC core adds a jitter of +-10 % itself, so that a fleet does not reconnect at once.
        arguments.append(("grpc.max_connection_age_ms", settings.max_connection_age_ms))
        arguments.append(("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace_ms))
    return arguments
