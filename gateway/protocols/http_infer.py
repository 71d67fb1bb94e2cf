"""Inference over ASGI: the path without the protocol class, and for what that one leaves to it (compressed bodies).

Same exchange, same answers and limits. No FastAPI, no pydantic: they would cost ten times the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.core.clock import Clock, monotonic_ns
from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.types import InferRequest, Outcome
from gateway.protocols.compression import MIN_BYTES, OFF_LOOP_BYTES, compress, inflate
from gateway.protocols.exchange import NO_REQUEST, Call, Exchange, HttpAnswer, Target
from gateway.protocols.http_door import Budget
from gateway.protocols.http_settings import HttpSettings
from gateway.protocols.status import http_status
from gateway.protocols.v2 import error_body

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]

_log = logging.getLogger("gateway.http")

# Deflate cannot expand more than this (zlib's technical notes), so it bounds what inflating may need beforehand.
_MAX_RATIO = 1032
_INTERNAL = b"content-type: application/json\r\n"


class ClientGone(Exception):
    """The client disconnected; nobody is there to answer."""


class InferEndpoint:
    """Serves one inference per call. Stateless; all state is in the call."""

    def __init__(self, exchange: Exchange, budget: Budget, settings: HttpSettings, now: Clock = monotonic_ns) -> None:
        self._exchange = exchange
        self._budget = budget
        self._settings = settings
        self._now = now

    async def __call__(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, serve, answer. The request is completed and finished whatever happens."""
        received_ns = self._now()
        headers: Headers = dict(reversed(scope["headers"]))  # the first of a repeated one counts
        body = _Body(self._budget)
        try:
            try:
                raw = await body.read(receive, headers, self._limit(target, headers))
                raw = await self._inflated(body, raw, target, headers)
            except ClientGone:
                return
            except GatewayError as error:
                # The rest of the body may still be on its way, so the connection cannot be used again.
                self._exchange.refused(target, error, received_ns)
                await _send(send, _refusal(error), close=True)
                return
            call = Call(target, NO_REQUEST)
            self._exchange.begin(call, headers, raw, received_ns)
            await self._serve(call, receive, send)
        finally:
            body.release()

    async def _serve(self, call: Call, receive: Receive, send: Send) -> None:
        request = call.request
        answered: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()

        def encode(_: InferRequest, outcome: Outcome) -> None:
            if not answered.done():
                answered.set_result(self._encode(call, outcome))

        request.on_outcome.append(encode)
        try:
            self._exchange.dispatch(call)
            if not answered.done():
                await _until_gone(answered, receive)
            if answered.done():
                answer = await _compressed(call, answered.result())
                await _send(send, answer)
        finally:
            # The client is gone, or this task was cancelled: queued work leaves the queue. Else nothing happens.
            answered.cancel()
            request.fail(Code.CANCELLED, "the client disconnected")
            request.finish()

    def _encode(self, call: Call, outcome: Outcome) -> HttpAnswer:
        try:
            return self._exchange.answer(call, outcome)
        except Exception:
            _log.exception("encoding an answer failed")
            return HttpAnswer(500, _INTERNAL, b'{"error":"internal error"}')

    def _limit(self, target: Target, headers: Headers) -> int:
        if _is_json(target, headers) and b"content-encoding" not in headers:
            return self._settings.max_json_bytes
        return self._settings.max_body_bytes

    async def _inflated(self, body: _Body, raw: bytes, target: Target, headers: Headers) -> bytes:
        """Undo the content coding in a thread; the worst case is taken from the budget before."""
        coding = headers.pop(b"content-encoding", b"").decode("latin-1")
        if not coding:
            return raw
        limit = self._settings.max_json_bytes if _is_json(target, headers) else self._settings.max_body_bytes
        body.take(min(limit, len(raw) * _MAX_RATIO))
        return await asyncio.to_thread(inflate, raw, coding, limit)


class _Body:
    """Reads one request body and holds its bytes in the budget until `release`."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0

    def take(self, count: int) -> None:
        """Hold `count` more bytes; raise OVERLOADED where the budget would be passed."""
        if not self._budget.take(count):
            raise GatewayError(Code.OVERLOADED, "too many request bytes in flight", retry_after_s=1)
        self._taken += count

    def release(self) -> None:
        """Give everything back."""
        self._budget.give(self._taken)
        self._taken = 0

    async def read(self, receive: Receive, headers: Headers, limit: int) -> bytes:
        """Return the whole body, which has at most `limit` bytes (else TOO_LARGE). Raises ClientGone."""
        announced = headers.get(b"content-length")
        if announced is not None:
            length = _length(announced)
            if length > limit:
                raise _too_large(limit)
            self.take(length)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            if size > self._taken:  # chunked: no length was announced
                self.take(size - self._taken)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


def _length(announced: bytes) -> int:
    announced = announced.strip()
    if not announced.isdigit() or len(announced) > 18:
        raise invalid("header 'Content-Length' must be a whole number of bytes")
    return int(announced)


def _is_json(target: Target, headers: Headers) -> bool:
    return target.kind != "bridge" and b"inference-header-content-length" not in headers


def _too_large(limit: int) -> GatewayError:
    return GatewayError(
        Code.TOO_LARGE,
        f"the request body is larger than {limit} bytes; JSON has a smaller limit than tensors in the binary form "
        "(Inference-Header-Content-Length)",
    )


async def _until_gone(answered: asyncio.Future[HttpAnswer], receive: Receive) -> None:
    """Return when the answer is there or the client has disconnected, whichever is first."""
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((answered, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _compressed(call: Call, answer: HttpAnswer) -> HttpAnswer:
    if not call.encoding or len(answer.body) < MIN_BYTES:
        return answer
    if len(answer.body) > OFF_LOOP_BYTES:
        body = await asyncio.to_thread(compress, answer.body, call.encoding)
    else:
        body = compress(answer.body, call.encoding)
    return HttpAnswer(answer.status, answer.headers + b"content-encoding: " + call.encoding + b"\r\n", body)


def _refusal(error: GatewayError) -> HttpAnswer:
    head = _INTERNAL
    if error.retry_after_s is not None:
        head += b"retry-after: %d\r\n" % error.retry_after_s
    return HttpAnswer(http_status(error.code), head, error_body(error))


async def _send(send: Send, answer: HttpAnswer, *, close: bool = False) -> None:
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in answer.headers.split(b"\r\n"))]
    headers[-1] = (b"content-length", str(len(answer.body)).encode())  # in place of what follows the last CRLF
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
