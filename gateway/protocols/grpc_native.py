"""gRPC on pygrpc-native (extra `fastgrpc`): HTTP/2 in Rust threads, a fifth of grpc.aio's cost per call.

Unary methods are answered from the front's events: its one thread hands batches of calls to the loop, and answers
go straight from the loop to the Rust side. Streams, Watch and reflection are proxied to a grpc.aio server on a
Unix socket. Limits of pygrpc-native 0.5: no TLS, no maximum connection age, no GOAWAY at shutdown, no
compression of answers, no deflate; a message is held against the size limit only after it was received whole.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, Outcome
from gateway.protocols.grpc_aio import AioTransport
from gateway.protocols.grpc_calls import Call, InferCalls, Metadata, as_gateway_error, error_trailers, trailers
from gateway.protocols.grpc_settings import GrpcSettings
from gateway.protocols.grpc_unary import INFERENCE_SERVICE, UnaryMethod, unary_methods
from gateway.protocols.status import grpc_status

EVENTS_PER_BATCH = 64
IO_THREADS = 1
FLUSH_S = 0.1


class NativeTransport:
    """Unary methods on the Rust front, everything else behind it. Bound to the loop that calls `start`."""

    def __init__(self, calls: InferCalls, settings: GrpcSettings) -> None:
        """Raise RuntimeError where the package is missing, ValueError for a setting it cannot honour."""
        try:
            import pygrpc_native
        except ImportError as error:
            raise RuntimeError("transport 'native' needs the extra 'fastgrpc' (pygrpc-native)") from error
        if settings.max_connection_age_ms:
            raise ValueError("transport 'native' has no maximum connection age; use transport 'aio' or set it to 0")
        self._package = pygrpc_native
        self._calls = calls
        self._settings = settings
        self._front: Any = None
        self._inner: AioTransport | None = None
        self._folder = ""
        self._methods: list[UnaryMethod | None] = []
        self._live: dict[int, Call] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._idle = asyncio.Event()

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the bound port; raise OSError where that fails."""
        try:
            front = self._package.NativeGrpcFront(
                address,
                [],
                io_threads=IO_THREADS,
                call_details=True,
                max_concurrent_streams=self._settings.max_concurrent_streams,
                max_metadata_size=self._settings.max_metadata_bytes,
                reuse_port=self._settings.reuse_port,
            )
        except OSError as error:
            raise OSError(f"cannot listen for gRPC on {address}") from error
        table = unary_methods(self._calls.service)
        self._methods = [None, *table.values()]
        front.add_methods([(f"/{INFERENCE_SERVICE}/ModelInfer", False), *((path, False) for path in table)])
        self._folder = tempfile.mkdtemp(prefix="gateway-grpc-")
        socket = Path(self._folder, "inner.sock")
        self._inner = AioTransport(self._calls, self._settings)
        await self._inner.start(f"unix:{socket}")
        front.set_fallback(str(socket))
        front.start()
        self._front = front
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._pump, args=(loop,), name="grpc-native", daemon=True)
        self._thread.start()
        return int(front.bound_port)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let calls in flight finish within `grace_s`, then cancel them and close."""
        self._stopping = True
        if self._inner is None or self._thread is None:
            return
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.gather(self._inner.stop(grace_s), self._drained())
        except TimeoutError:
            await self._inner.stop(0)
        for call_id in list(self._live):
            self._cancel(call_id)
        # The front has no flush: closing at once drops answers it was handed but has not written.
        await asyncio.sleep(FLUSH_S)
        self._front.close()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _drained(self) -> None:
        while self._live:
            self._idle.clear()
            await self._idle.wait()

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run in the thread: one wake-up of the loop per batch of events, not per call."""
        receive = self._front.recv_batch_details
        while (events := receive(EVENTS_PER_BATCH)) is not None:
            try:
                loop.call_soon_threadsafe(self._on_events, events)
            except RuntimeError:  # the loop is closed: nobody is left to answer
                return

    def _on_events(self, events: Sequence[tuple[int, int, int, bytes | None, Any, Any]]) -> None:
        call = self._package.EVENT_CALL
        for kind, call_id, method_id, payload, _, details in events:
            if kind != call:
                self._cancel(call_id)
                continue
            try:
                self._on_call(call_id, method_id, payload or b"", details)
            except Exception as error:  # nothing but an answer ends a call
                self._fail(call_id, as_gateway_error(error))

    def _on_call(self, call_id: int, method_id: int, payload: bytes, details: Any) -> None:
        if self._stopping:
            raise GatewayError(Code.NOT_READY, "the server is shutting down", retry_after_s=1)
        limit = self._settings.max_message_bytes
        if len(payload) > limit:
            raise GatewayError(Code.TOO_LARGE, f"Received message larger than max ({len(payload)} vs. {limit})")
        method = self._methods[method_id]
        if method is not None:
            self._front.respond(call_id, method.call(payload))
            return
        metadata, _peer, remaining_s = details
        call = self._calls.begin(payload, metadata, remaining_s)
        self._live[call_id] = call
        call.request.on_outcome.append(functools.partial(self._answer, call_id))
        self._calls.dispatch(call)

    def _answer(self, call_id: int, request: InferRequest, _outcome: Outcome) -> None:
        call = self._live.pop(call_id, None)
        if call is None:
            return
        if not self._live:
            self._idle.set()
        answer = self._calls.encode(request)
        if isinstance(answer, bytes):
            self._front.respond(call_id, answer, None, trailers(call))
        else:
            self._fail(call_id, answer, trailers(call, answer))
        request.finish()

    def _fail(self, call_id: int, error: GatewayError, metadata: Metadata | None = None) -> None:
        given = error_trailers(error) if metadata is None else metadata
        self._front.fail(call_id, grpc_status(error.code), error.message, given)

    def _cancel(self, call_id: int) -> None:
        call = self._live.pop(call_id, None)
        if call is not None:
            self._calls.cancel(call.request)
            if not self._live:
                self._idle.set()
