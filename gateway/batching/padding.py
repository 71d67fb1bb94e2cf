"""Pad a variable axis up to the next bucket so that requests of different lengths share a batch; cut the answers back.

Exact only for models that mask padding out, so a mask input is required (its padding is 0 like all padding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway.core.errors import GatewayError
from gateway.core.types import InferRequest, InferResponse, Outcome, Stage, Tensor
from runtimes.base import Array, ModelSignature


@dataclass(frozen=True, slots=True)
class PaddingSettings:
    """`axis` counts from 0 = the batch axis, so it is >= 1. `buckets` are lengths, ascending. `mask` names an input."""

    axis: int
    buckets: tuple[int, ...]
    mask: str

    def problem(self, signature: ModelSignature) -> str:
        """Say why these settings do not fit `signature`; "" where they do."""
        if self.axis < 1 or not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            return "padding needs axis >= 1 and ascending bucket lengths >= 1"
        if self.mask not in {spec.name for spec in signature.inputs}:
            return f"padding is exact only with a mask: the model has no input '{self.mask}'"
        for spec in signature.inputs:
            if len(spec.shape) <= self.axis or spec.shape[self.axis] != -1 or spec.datatype == "BYTES":
                return f"padding axis {self.axis} of input '{spec.name}' is not a variable numeric axis"
        return ""


class PadStage:
    """Pads requests; those longer than the largest bucket, uneven between inputs, or without mask go on as they are."""

    def __init__(self, settings: PaddingSettings, signature: ModelSignature, inner: Stage) -> None:
        self._axis = settings.axis
        self._buckets = settings.buckets
        self._mask = settings.mask
        self._outputs = frozenset(
            spec.name
            for spec in signature.outputs
            if len(spec.shape) > settings.axis and spec.shape[settings.axis] == -1
        )
        self._inner = inner

    def __call__(self, request: InferRequest) -> None:
        """Pad with zeros and hand on; arrays of the client are not modified."""
        inputs = request.inputs
        lengths = {tensor.array.shape[self._axis] for tensor in inputs.values()}
        length = lengths.pop()
        bucket = next((size for size in self._buckets if size >= length), 0)
        if not lengths and bucket and self._mask in inputs:
            if bucket != length:
                for tensor in inputs.values():
                    tensor.array = padded(tensor.array, self._axis, bucket)
                self._cut_answers(request, _Cut(self._axis, length, bucket, self._outputs))
            # Names and the other axes still decide: optional inputs and further variable axes may differ.
            request.shape_key = tuple((name, inputs[name].array.shape[1:]) for name in sorted(inputs))
        self._inner(request)

    @staticmethod
    def _cut_answers(request: InferRequest, cut: _Cut) -> None:
        """Cut the answer, and the parts of a streamed one."""
        request.on_outcome.append(cut)
        send = request.on_part
        if send is not None:
            request.on_part = lambda part: send(cut.response(part))


def padded(array: Array, axis: int, length: int) -> Array:
    """Return a copy of `array`, zeros appended along `axis` up to `length`."""
    shape = list(array.shape)
    have = shape[axis]
    shape[axis] = length
    result = np.zeros(shape, array.dtype)
    result[(slice(None),) * axis + (slice(0, have),)] = array
    return result


class _Cut:
    """Outcome hook: cut the padded part off the outputs that have the axis."""

    __slots__ = ("_axis", "_bucket", "_length", "_outputs")

    def __init__(self, axis: int, length: int, bucket: int, outputs: frozenset[str]) -> None:
        self._axis = axis
        self._length = length
        self._bucket = bucket
        self._outputs = outputs

    def __call__(self, request: InferRequest, outcome: Outcome) -> None:
        if not isinstance(outcome, GatewayError):
            request.replace_outcome(self.response(outcome))

    def response(self, response: InferResponse) -> InferResponse:
        """Return `response` without what padding added to it; it is not modified."""
        index = (slice(None),) * self._axis + (slice(0, self._length),)
        outputs = {
            name: Tensor(tensor.datatype, tensor.array[index])
            if name in self._outputs and tensor.array.shape[self._axis] == self._bucket
            else tensor
            for name, tensor in response.outputs.items()
        }
        return InferResponse(outputs, response.parameters)
