"""Bad requests of every form, made by spoiling good ones: 1,000 each, 100,000 each by `make soak`.

Whatever comes: an answer, below 500, in the protocol's own form; and where the JSON parses, the message names the
input or the place in the document.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import Code, GatewayError
from gateway.core.oip import service_pb2
from gateway.protocols import v2_pb

SHORT = settings(max_examples=1000, deadline=None, database=None, derandomize=True, suppress_health_check=HealthCheck)
LONG = settings(SHORT, max_examples=100_000, derandomize=False, print_blob=True)

JUNK = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    1.5,
    -0.0,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    "",
    "NaN",
    "Infinity",
    "FP32",
    "FP16",
    "BF16",
    "COMPLEX",
    "F",
    "a\0b",
    "\ud800",
    "é" * 40,
    "x" * 2000,
    [],
    {},
    [[]],
    [None],
    [1, [2]],
    [[[[1]]]],
    {"a": 1},
    {"b64": "AA=="},
    {"b64": "?"},
    {"binary_data_size": 8},
    {"binary_data_size": -1},
    {"binary_data_size": 2**62},
    {"shared_memory_region": "r"},
    {"classification": 2},
    {"classification": -1},
    {"classification": 10**18},
    {"binary_data": True},
    {"timeout": 10**9},
    {"timeout": -1},
    {"sequence_id": 5},
]
KEYS = ["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id", "instances", "unknown", "F", "X"]
# Small enough integers and shapes are often right; the names are what messages must hold.
NAMES = ["F", "I", "U", "S", "B", "X", "T"]

ROWS = {"F": [1.5, 2, 3], "I": [1, -2], "U": [0, 255], "S": ["text"], "B": [True]}
TYPES = {"F": "FP32", "I": "INT64", "U": "UINT8", "S": "BYTES", "B": "BOOL"}
BINARY = {"F": bytes(12), "I": bytes(16), "U": b"\x00\xff", "S": b"\x02\0\0\0hi", "B": b"\x01"}


def v2_document():
    inputs = [{"name": n, "shape": [1, len(r)], "datatype": TYPES[n], "data": list(r)} for n, r in ROWS.items()]
    return {"id": "r", "inputs": inputs, "outputs": [{"name": "OUTPUT_0"}, {"name": "OUTPUT_3"}], "parameters": {}}


def copied(document):
    return json.loads(json.dumps(document))


def v1_document():
    return copied({"instances": [ROWS, ROWS]})


def v1_columns():
    return copied({"inputs": {name: [row] for name, row in ROWS.items()}})


def binary_document():
    document = v2_document()
    for tensor in document["inputs"]:
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(BINARY[tensor["name"]])}
    return document


def places(node):
    """Every container of a document with a key into it."""
    found = []
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        found.append((node, key))
        if isinstance(node[key], dict | list):
            found += places(node[key])
    return found


@st.composite
def spoilt(draw, document):
    """Change 1 to 3 places of a good document."""
    document = document()
    for _ in range(draw(st.integers(1, 3))):
        found = places(document)
        if not found:
            break
        node, key = draw(st.sampled_from(found))
        junk = copied(draw(st.sampled_from(JUNK)))  # it may be spoilt further
        change = draw(st.sampled_from(["replace", "drop", "repeat", "wrap", "add"]))
        if change == "replace":
            node[key] = junk
        elif change == "drop":
            del node[key]
        elif change == "wrap":
            node[key] = [node[key]]
        elif isinstance(node, list):
            node.insert(key, junk if change == "add" else copied(node[key]))
        else:
            node[draw(st.sampled_from(KEYS))] = junk if change == "add" else copied(node[key])
    return document


def dumped(document):
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, data):
    """Cut, flip or insert bytes; often nothing."""
    how = draw(st.sampled_from(["no", "no", "no", "cut", "flip", "insert"]))
    if how == "no" or not data:
        return data
    at = draw(st.integers(0, len(data) - 1))
    if how == "cut":
        return data[:at]
    byte = draw(st.binary(min_size=1, max_size=4))
    return data[:at] + byte + data[at + (1 if how == "flip" else 0) :]


HEADERS = st.dictionaries(
    st.sampled_from(
        [b"x-request-timeout-ms", b"x-request-id", b"traceparent", b"x-gateway-timing", b"accept-encoding"]
    ),
    st.sampled_from(
        [b"", b"1000000", b"-1", b"nan", b"\xff\xfe", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"gzip"]
    ),
    max_size=1,
)


@st.composite
def v2_json(draw):
    body = draw(damaged(dumped(draw(spoilt(v2_document)))))
    path = draw(
        st.sampled_from([b"/v2/models/many/infer"] * 8 + [b"/v2/models/many/versions/x/infer", b"/v2/models/%ff/infer"])
    )
    return path, draw(HEADERS), body


@st.composite
def v2_binary(draw):
    document = draw(st.one_of(st.builds(binary_document), spoilt(binary_document)))
    head = dumped(document)
    tail = draw(damaged(b"".join(BINARY.values())))
    length = str(len(head)).encode()
    length = draw(st.sampled_from([length] * 6 + [b"0", b"1", b"-1", b"x", b"9" * 30, str(len(head) + 1).encode()]))
    return b"/v2/models/many/infer", {b"inference-header-content-length": length}, draw(damaged(head)) + tail


@st.composite
def raw(draw):
    model = draw(st.sampled_from([b"one", b"text", b"many"]))
    return (
        b"/v2/models/%b/infer" % model,
        {b"inference-header-content-length": b"0"},
        draw(st.binary(max_size=70)) * draw(st.sampled_from([1, 1, 100])),
    )


@st.composite
def v1(draw):
    document = draw(spoilt(draw(st.sampled_from([v1_document, v1_columns]))))
    return b"/v1/models/many:predict", draw(HEADERS), draw(damaged(dumped(document)))


def pb_message():
    message = service_pb2.ModelInferRequest(model_name="many", id="r")
    for name, row in ROWS.items():
        message.inputs.add(name=name, datatype=TYPES[name], shape=[1, len(row)])
        message.raw_input_contents.append(BINARY[name])
    return message


@st.composite
def pb_spoilt(draw):
    message = pb_message()
    if draw(st.booleans()):
        del message.raw_input_contents[:]
        fields = ("fp32_contents", "int64_contents", "uint_contents", "bytes_contents", "bool_contents")
        for tensor, field in zip(message.inputs, fields, strict=True):
            row = ROWS[tensor.name]
            getattr(tensor.contents, field).extend([b"text"] if tensor.name == "S" else row)
    for _ in range(draw(st.integers(1, 3))):
        tensor = message.inputs[draw(st.integers(0, len(message.inputs) - 1))]
        change = draw(st.integers(0, 9))
        number = draw(st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**62, -(2**63), 2**63 - 1]))
        if change == 0:
            tensor.shape[:] = draw(st.lists(st.sampled_from([number, 1, 3]), max_size=70))
        elif change == 1:
            tensor.datatype = draw(st.sampled_from(["", "FP16", "BF16", "FP64", "BYTES", "BOOL", "INT8", "x" * 2000]))
        elif change == 2:
            tensor.name = draw(st.sampled_from(["", "F", "I", "a\0", "x" * 2000]))
        elif change == 3:
            tensor.contents.int_contents.append(number % 2**31)
        elif change == 4 and message.raw_input_contents:
            message.raw_input_contents[-1] = draw(st.binary(max_size=20))
        elif change == 5:
            message.raw_input_contents.append(draw(st.binary(max_size=20)))
        elif change == 6:
            tensor.parameters[draw(st.sampled_from(["shared_memory_region", "x"]))].int64_param = number
        elif change == 7:
            output = message.outputs.add(name=draw(st.sampled_from(["OUTPUT_0", "OUTPUT_3", "", "none"])))
            output.parameters["classification"].int64_param = number
        elif change == 8:
            name = draw(st.sampled_from(["sequence_id", "priority", "x", "sequence_start"]))
            message.parameters[name].CopyFrom(
                draw(st.sampled_from([service_pb2.InferParameter(), service_pb2.InferParameter(int64_param=number)]))
            )
        else:
            message.model_version = draw(st.sampled_from(["", "1", "9", "x", "1" * 50]))
    return message


@st.composite
def bridge(draw):
    headers = draw(st.sampled_from([{}] * 6 + [{b"content-type": b"application/json"}, {b"grpc-timeout": b"x"}]))
    body = draw(damaged(draw(pb_spoilt()).SerializeToString()))
    return b"/inference.GRPCInferenceService/ModelInfer", headers, body


def check_http(loop, plane, request):
    path, headers, body = request
    answer = loop.run_until_complete(plane.serve(path, headers, body))
    assert 200 <= answer.status < 500, answer
    if path.startswith(b"/inference"):
        return
    if b"inference-header-content-length" in answer.headers:
        return
    document = json.loads(answer.body, parse_constant=pytest.fail)
    if answer.status == 200:
        return
    assert list(document) == ["error"]
    assert answer.status in (400, 404)
    # With headers or a path that are wrong, the fault need not be in the document.
    if answer.status == 400 and not headers and path in (b"/v2/models/many/infer", b"/v1/models/many:predict"):
        check_place(document["error"], body, path)


def check_place(message, body, path):
    """The message holds the name of an input or output, or a place in the document."""
    try:
        document = json.loads(body, parse_constant=pytest.fail)
        dumped(document).decode()  # lone surrogates are no text
    except (ValueError, UnicodeError, pytest.fail.Exception):
        return
    names = [f"'{name}'" for name in [*NAMES, *_names(document)]]
    keys = ("$", "instances", "inputs", "signature_name") if path.startswith(b"/v1") else ("$",)
    assert any(text in message for text in (*keys, *names)), message


def _names(document):
    """Names of tensors that the document gives, outputs included: a fault may be theirs."""
    lists = [document.get(key) for key in ("inputs", "outputs")] if isinstance(document, dict) else []
    items = [item for found in lists if isinstance(found, list) for item in found]
    return [item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)]


def check_grpc(loop, plane, message):
    try:
        request = v2_pb.decode_infer(message, 0)
    except GatewayError as error:
        assert error.code is Code.INVALID_ARGUMENT
        return

    async def serve():
        return await plane.outcome(request, lambda: plane.service.infer(request))

    outcome = loop.run_until_complete(serve())
    request.finish()
    if isinstance(outcome, GatewayError):
        assert outcome.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND), outcome
    else:
        v2_pb.encode_infer(request, outcome).SerializeToString()


DECODERS = {
    "v2_json": (v2_json, check_http),
    "v2_binary": (v2_binary, check_http),
    "raw": (raw, check_http),
    "v1": (v1, check_http),
    "bridge": (bridge, check_http),
    "grpc": (pb_spoilt, check_grpc),
}


def spoil(decoder, loop, plane, how):
    strategy, check = DECODERS[decoder]

    @how
    @given(strategy())
    def run(request):
        check(loop, plane, request)

    run()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_thousand_bad_requests(decoder, loop, plane):
    spoil(decoder, loop, plane, SHORT)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_hundred_thousand_bad_requests(decoder, loop, plane):
    spoil(decoder, loop, plane, LONG)


def test_the_good_requests_are_good(loop, plane):
    """Else everything above would stop at the first check."""
    head = dumped(binary_document())
    binary = {b"inference-header-content-length": b"%d" % len(head)}
    for path, headers, body in [
        (b"/v2/models/many/infer", {}, dumped(v2_document())),
        (b"/v2/models/many/infer", binary, head + b"".join(BINARY.values())),
        (b"/v1/models/many:predict", {}, dumped(v1_document())),
        (b"/inference.GRPCInferenceService/ModelInfer", {}, pb_message().SerializeToString()),
        (b"/v2/models/one/infer", {b"inference-header-content-length": b"0"}, bytes(16)),
    ]:
        answer = loop.run_until_complete(plane.serve(path, headers, body))
        assert answer.status == 200, answer
