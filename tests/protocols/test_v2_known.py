"""Bodies whose text came before decode to exactly what the whole codec makes of them, or to its refusal."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import GatewayError
from gateway.protocols import v2, v2_known


@pytest.fixture(autouse=True)
def nothing_known():
    forget()


def forget():
    for memory in (v2_known._headers, v2_known._frames, v2_known._met):
        memory.clear()


def told(body, header_length=None):
    """What a body is decoded to, as plain values; or the refusal."""
    try:
        decoded = v2.decode_request("m", "1", body, header_length, 0)
    except GatewayError as error:
        return error.code, error.message
    request = decoded.request
    tensors = [(n, t.datatype, t.array.dtype.str, t.array.shape, plain(t.array)) for n, t in request.inputs.items()]
    return request.id, request.outputs, dict(request.parameters), request.deadline_ns, decoded.binary, tensors


def plain(array):
    return array.tolist() if array.dtype.hasobject else array.tobytes()


def taught(body, header_length=None):
    """Show a body often enough that it is known."""
    for _ in range(3):
        told(body, header_length)


def same_as_unknown(body, header_length=None):
    known = told(body, header_length)
    memories = [memory.copy() for memory in (v2_known._headers, v2_known._frames, v2_known._met)]
    forget()
    unknown = told(body, header_length)
    for memory, before in zip((v2_known._headers, v2_known._frames, v2_known._met), memories, strict=True):
        memory.clear()
        memory.update(before)
    assert known == unknown


def body_of(*tensors, **fields):
    inputs = [dict(zip(("name", "shape", "datatype", "data"), tensor, strict=True)) for tensor in tensors]
    return json.dumps({**fields, "inputs": inputs}).encode()


FLOATS = body_of(("x", [1, 4], "FP32", [1.5, -2, 0.25, 3e-2]))
TWO = body_of(("ids", [1, 3], "INT64", [5, 6, 7]), ("mask", [1, 3], "INT64", [1, 1, 0]), id="a")
OUTPUTS = body_of(("x", [2], "FP64", [1, 2]), outputs=[{"name": "y", "parameters": {"binary_data": True}}])


def known_frames():
    return sum(bool(known.holes) for known in v2_known._frames.values())


@pytest.mark.parametrize("body", [FLOATS, TWO, OUTPUTS])
def test_a_json_text_is_known_from_the_second_time_on(body):
    told(body)
    assert known_frames() == 0
    told(body)
    assert known_frames() == 1
    same_as_unknown(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[]}',
        body_of(("x", [0], "FP32", [])),
        body_of(("x", [2, 2], "FP32", [[1, 2], [3, 4]])),  # nested: ends elsewhere
        body_of(("x", [1], "BYTES", ["a]"])),
        body_of(("x", [1], "BOOL", [True])),
        body_of(("x", [1], "FP32", [1]), parameters={"timeout": 1000}),  # counts from now
        body_of(("x", [1], "FP32", [1]), parameters={"mine": 1}),
        b'{"a": {"data": [1]}, "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        body_of(("x", [2000], "FP32", [1] * 2000)),  # large
        b'{"id": "' + b"i" * 1100 + b'", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
    ],
)
def test_an_unusual_text_is_never_learned_and_always_answered_alike(body):
    taught(body)
    same_as_unknown(body)
    assert known_frames() == 0


@pytest.mark.parametrize(
    "body",
    [
        body_of(("x", [1], "FP32", ["NaN"])),
        b'{"id": "\\"data\\" [1]", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b' { "inputs" : [ { "data" : [ 1 , 2 ] , "name" : "]", "shape" : [ 2 ] , "datatype" : "FP64" } ] } ',
    ],
)
def test_an_odd_text_is_answered_alike_once_it_is_known(body):
    taught(body)
    same_as_unknown(body)
    assert known_frames() == 1


@pytest.mark.parametrize(
    ("datatype", "count", "known"), [("INT64", 64, 1), ("INT64", 65, 0), ("FP64", 65, 0), ("FP32", 300, 1)]
)
def test_long_lists_are_left_to_the_codec_that_reads_them_faster(datatype, count, known):
    body = body_of(("x", [count], datatype, [1] * count))
    taught(body)
    same_as_unknown(body)
    assert known_frames() == known


def test_a_text_with_an_id_of_its_own_each_time_is_not_kept():
    for index in range(3000):
        told(body_of(("x", [1], "FP32", [1]), id=f"request-{index}"))
    assert known_frames() == 0
    assert len(v2_known._met) <= v2_known.MAX_KNOWN


def test_many_different_texts_are_bounded():
    for index in range(v2_known.MAX_KNOWN + 10):
        taught(body_of((f"x{index}", [1], "FP32", [1])))
    assert 0 < known_frames() <= v2_known.MAX_KNOWN


@pytest.mark.parametrize(
    "data",
    [
        *("[1, 2, 3]", "[1, 2, 3, 4, 5]", "[1, 2, 3, true]", "[1, 2, 3, 1e39]", '["NaN", 1, 2, 3]', "[1, 2, 3, NaN]"),
        *("[[1, 2], [3, 4]]", "[]", "null", "[1, 2, 3, 4", "[1, 2, 3, 04]", "[1 2 3 4]", "[1, 2, 3, 4]]", "[1,,2,3]"),
    ],
)
def test_a_known_text_around_other_data_is_judged_as_if_it_were_new(data):
    taught(FLOATS)
    same_as_unknown(FLOATS.replace(b"[1.5, -2, 0.25, 0.03]", data.encode()))


@pytest.mark.parametrize(
    ("datatype", "low", "high"),
    [
        *((f"INT{bits}", -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)),
        *((f"UINT{bits}", 0, 2**bits - 1) for bits in (8, 16, 32, 64)),
    ],
)
def test_integers_are_exact_up_to_their_ends_and_refused_beyond(datatype, low, high):
    taught(body_of(("x", [2], datatype, [0, 1])))
    assert known_frames() == 1
    for data in ([low, high], [low - 1, 0], [high + 1, 0], [1.0, 2]):
        same_as_unknown(body_of(("x", [2], datatype, data)))


numbers = st.floats(width=64, allow_nan=False) | st.integers(-(2**70), 2**70)


@given(st.lists(numbers, min_size=4, max_size=4))
def test_numbers_in_a_known_text_are_those_of_the_whole_codec(values):
    taught(FLOATS)
    same_as_unknown(FLOATS.replace(b"[1.5, -2, 0.25, 0.03]", json.dumps(values).encode()))


pieces = st.sampled_from([*(bytes((code,)) for code in b'[]{},"\\1-. \xff'), b'"data":', b"null"])
edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), pieces | st.just(b"")), min_size=1, max_size=3)


@settings(max_examples=400)
@given(st.sampled_from([FLOATS, TWO, OUTPUTS]), edits)
@example(TWO, [(10, 0, b'"data":')])
def test_an_edited_text_is_judged_as_if_it_were_new(body, changes):
    taught(body)
    for at, cut, piece in changes:
        body = body[:at] + piece + body[at + cut :]
    same_as_unknown(body)


def binary_of(array, datatype="FP32", **fields):
    parameters = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "shape": list(array.shape), "datatype": datatype, "parameters": parameters}
    header = json.dumps({**fields, "inputs": [tensor]}).encode()
    return header + array.tobytes(), len(header)


@pytest.mark.parametrize(
    ("array", "datatype", "fields"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), "FP32", {}),
        (np.arange(4, dtype=np.float16), "FP16", {"id": "a", "outputs": [{"name": "y"}]}),
        (np.arange(4, dtype=np.int64), "INT64", {"parameters": {"binary_data_output": True}}),
    ],
)
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_a_known_binary_header_gives_views_of_the_new_tensors(array, datatype, fields, form):
    body, header_length = binary_of(array, datatype, **fields)
    taught(form(body), header_length)
    assert len(v2_known._headers) == 1
    other = form(body[:header_length] + bytes(reversed(body[header_length:])))
    same_as_unknown(other, header_length)
    decoded = v2.decode_request("m", "1", other, header_length, 0)
    assert np.shares_memory(decoded.request.inputs["x"].array, np.frombuffer(other, np.uint8))


@pytest.mark.parametrize(
    ("array", "datatype"), [(np.array([True, False]), "BOOL"), (np.zeros((0,), np.float32), "FP32")]
)
def test_tensors_whose_bytes_must_be_looked_at_are_never_known(array, datatype):
    body, header_length = binary_of(array, datatype)
    taught(body, header_length)
    same_as_unknown(body, header_length)
    assert not any(known.inputs for known in v2_known._headers.values())


@given(st.integers(0, 400), st.integers(-90, 40))
def test_a_known_binary_header_with_other_lengths_is_judged_as_if_it_were_new(header_length, more):
    body, length = binary_of(np.arange(8, dtype=np.float32))
    taught(body, length)
    changed = body[:more] if more < 0 else body + bytes(more)
    same_as_unknown(changed, length)
    if header_length:
        same_as_unknown(body, header_length)
