"""Requests above max_batch_size: divide into parts that fit, execute them as ordinary requests, rejoin the rows."""

from __future__ import annotations

import numpy as np

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, Outcome, Stage, Tensor


class OversizeStage:
    """Takes requests of more than `max_rows` rows and hands them on as parts whose answers are joined in order."""

    __slots__ = ("_inner", "_max_parts", "_max_rows")

    def __init__(self, max_rows: int, inner: Stage, *, max_parts: int = 1024) -> None:
        self._max_rows = max_rows
        self._max_parts = max_parts  # no more than the queue holds: such a request could never be served
        self._inner = inner

    def __call__(self, request: InferRequest) -> None:
        """Hand on `request` in parts. An error of any part is the answer; the other parts are dropped."""
        limit = self._max_parts * self._max_rows
        if request.rows > limit:
            message = f"inference request batch-size must be <= {limit} for '{request.model}'"
            request.fail(Code.INVALID_ARGUMENT, f"[request id: {request.id or '<id_unknown>'}] {message}")
            return
        parts = [self._part(request, start) for start in range(0, request.rows, self._max_rows)]
        _Join(request, parts)
        for part in parts:
            if request.outcome is not None:
                return
            self._inner(part)

    def _part(self, request: InferRequest, start: int) -> InferRequest:
        stop = min(start + self._max_rows, request.rows)
        return InferRequest(
            model=request.model,
            id=request.id,
            inputs={name: Tensor(t.datatype, t.array[start:stop]) for name, t in request.inputs.items()},
            outputs=request.outputs,
            parameters=request.parameters,
            deadline_ns=request.deadline_ns,
            trace=request.trace,
            rows=stop - start,
            target=request.target,
            known=request.known,
            role=request.role,
            shape_key=request.shape_key,
        )


class _Join:
    """Waits for all parts of one request. Lives as hooks on the parts and on the whole."""

    __slots__ = ("_open", "_parts", "_whole")

    def __init__(self, whole: InferRequest, parts: list[InferRequest]) -> None:
        self._whole = whole
        self._parts = parts
        self._open = len(parts)
        whole.on_outcome.append(self._whole_done)
        for part in parts:
            part.on_outcome.append(self._part_done)

    def _whole_done(self, whole: InferRequest, outcome: Outcome) -> None:
        """The whole ended (answered, cancelled, expired): what still waits of it must not execute."""
        for part in self._parts:
            if part.outcome is None:
                part.fail(Code.CANCELLED, "the request this is a part of has ended")

    def _part_done(self, part: InferRequest, outcome: Outcome) -> None:
        whole = self._whole
        if whole.outcome is not None:
            return
        if isinstance(outcome, GatewayError):
            whole.complete(outcome)
            return
        self._open -= 1
        if self._open:
            return
        self._stamp()
        try:
            response = InferResponse(self._joined())
        except (ValueError, KeyError):
            # The rest of a row's shape may depend on what else was in the batch.
            message = "the request exceeds the model's batch size, and the answers of its parts do not fit together"
            whole.fail(Code.INTERNAL, f"[request id: {whole.id or '<id_unknown>'}] {message}")
        else:
            whole.complete(response)

    def _joined(self) -> dict[str, Tensor]:
        answers = [part.outcome.outputs for part in self._parts if isinstance(part.outcome, InferResponse)]
        return {
            name: Tensor(tensor.datatype, np.concatenate([answer[name].array for answer in answers]))
            for name, tensor in answers[0].items()
        }

    def _stamp(self) -> None:
        whole = self._whole
        last = self._parts[-1]
        whole.timeline.queued = self._parts[0].timeline.queued
        whole.timeline.execute_start = min(part.timeline.execute_start for part in self._parts)
        whole.timeline.execute_end = max(part.timeline.execute_end for part in self._parts)
        whole.batch_rows = max(part.batch_rows for part in self._parts)
        whole.batch_requests = last.batch_requests
        whole.close_reason = last.close_reason
        whole.compute_share_ns = sum(part.compute_share_ns for part in self._parts)
