"""ModelStreamInfer: many requests on one stream, answers in the order the requests came (as Triton's unary models).

A failed request answers with `error_message` and its id, and the stream goes on. With the call metadata
`triton_grpc_error: true` the first failure ends the stream with its status instead (Triton's strict mode).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from gateway.core.errors import Code, GatewayError
from gateway.core.oip import service_pb2
from gateway.core.types import InferRequest, InferResponse, Outcome
from gateway.protocols.grpc_calls import GivenMetadata, InferCalls, as_gateway_error

MAX_PENDING = 64
"""Requests of one stream in flight; beyond it the stream is not read, and HTTP/2 flow control holds the client."""

_EMPTY_FINAL = "triton_enable_empty_final_response"


class StreamFailed(Exception):
    """Ends the stream with the status of `error`."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.message)
        self.error = error


class _Turn:
    """One request of the stream: the messages it has ready, and whether more may come."""

    __slots__ = ("done", "error", "messages", "request", "streamed")

    def __init__(self, request: InferRequest) -> None:
        self.request = request
        self.messages: deque[Any] = deque()
        self.error: GatewayError | None = None
        self.done = False
        self.streamed = False


class InferStream:
    """The life of one stream. `answers` is iterated once; leaving it cancels what is still queued."""

    def __init__(self, calls: InferCalls, metadata: GivenMetadata, remaining_s: float | None) -> None:
        self._calls = calls
        self._metadata = tuple(metadata)
        self._remaining_s = remaining_s
        self._strict = any(key == "triton_grpc_error" and value == "true" for key, value in self._metadata)
        self._turns: deque[_Turn] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reading = True
        self._draining = False

    def drain(self) -> None:
        """Begin nothing new; what was begun is answered, then the stream ends with UNAVAILABLE."""
        self._draining = True
        self._reading = False
        self._news.set()

    async def answers(self, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Yield ModelStreamInferResponses until all requests are answered; raises StreamFailed in strict mode."""
        reader = asyncio.create_task(self._read(messages))
        try:
            while self._reading or self._turns:
                await self._news.wait()
                self._news.clear()
                while self._turns:
                    turn = self._turns[0]
                    while turn.messages:
                        yield turn.messages.popleft()
                    if not turn.done:
                        break
                    self._finish(self._turns.popleft())
            if self._draining and not reader.done():
                raise StreamFailed(GatewayError(Code.NOT_READY, "the server is shutting down", retry_after_s=1))
            await reader
        finally:
            reader.cancel()
            for turn in self._turns:
                self._calls.cancel(turn.request)

    async def _read(self, messages: AsyncIterator[bytes]) -> None:
        try:
            async for raw in messages:
                if self._draining:
                    await asyncio.Event().wait()  # until `answers` ends the stream
                self._start(raw)
                while len(self._turns) >= MAX_PENDING:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._reading = False
            self._news.set()

    def _start(self, raw: bytes) -> None:
        call = self._calls.begin(raw, self._metadata, self._remaining_s)
        request = call.request
        turn = _Turn(request)
        self._turns.append(turn)
        request.on_outcome.append(lambda request, outcome: self._complete(turn, request, outcome))
        request.on_part = lambda part: self._part(turn, request, part)
        self._calls.dispatch(call)

    def _part(self, turn: _Turn, request: InferRequest, part: InferResponse) -> None:
        turn.streamed = True
        final = False if request.parameters.get(_EMPTY_FINAL) else None
        try:
            turn.messages.append(self._calls.encode_part(request, part, final=final))
        except GatewayError as error:
            request.complete(error)
        self._news.set()

    def _complete(self, turn: _Turn, request: InferRequest, outcome: Outcome) -> None:
        if isinstance(outcome, GatewayError):
            self._fail(turn, outcome)
            return
        opted = bool(request.parameters.get(_EMPTY_FINAL))
        # A streamed answer whose end brings no outputs needs no message, unless the client waits for the mark.
        if outcome.outputs or opted or not turn.streamed:
            try:
                turn.messages.append(self._calls.encode_part(request, outcome, final=True if opted else None))
            except GatewayError as error:
                request.replace_outcome(error)
                self._fail(turn, error)
                return
        turn.done = True
        self._news.set()

    def _fail(self, turn: _Turn, error: GatewayError) -> None:
        turn.error = error
        message = service_pb2.ModelStreamInferResponse(error_message=error.message)
        message.infer_response.id = turn.request.id
        if not self._strict:
            turn.messages.append(message)
        turn.done = True
        self._news.set()

    def _finish(self, turn: _Turn) -> None:
        self._room.set()
        turn.request.finish()
        if self._strict and turn.error is not None:
            raise StreamFailed(turn.error)


def stream_error(error: Exception) -> GatewayError:
    """Return the error a stream ends with."""
    return error.error if isinstance(error, StreamFailed) else as_gateway_error(error)
