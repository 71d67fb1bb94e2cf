"""What only tritonclient's HTTP clients have: JSON and binary forms, compression, greenlets, request bodies."""

import gzip
import json
import urllib.request
import zlib

import numpy as np
import pytest
import tritonclient.http as httpclient
import tritonclient.http.aio as aioclient
from tritonclient.utils import InferenceServerException

pytestmark = [
    pytest.mark.xdist_group("demo"),
    # tritonclient's http.aio leaves answers unread where it raises; aiohttp warns when they are collected
    pytest.mark.filterwarnings("ignore:.*Connection.__del__:pytest.PytestUnraisableExceptionWarning"),
]

ROWS = np.arange(4000, dtype=np.float32).reshape(1, -1)


@pytest.fixture(params=["http", "http.aio"])
def kind(request):
    return request.param


def tensors(client, array, datatype, *, binary_in, binary_out):
    made = client.module.InferInput("INPUT0", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary_in)
    return [made], [client.output("OUTPUT0", binary_data=binary_out)]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize(
    ("model", "datatype", "array"),
    [
        ("identity_fp32", "FP32", np.array([[0.1, -2.5, 3e38]], np.float32)),
        ("identity_int64", "INT64", np.array([[2**63 - 1, -(2**63), 2**53 + 1]], np.int64)),
        ("identity_fp64", "FP64", np.array([[0.1, 1e308]], np.float64)),
        ("identity_bool", "BOOL", np.array([[True, False]])),
        ("identity_bytes", "BYTES", np.array([["ä€😀".encode(), b""]], np.object_)),
    ],
)
async def test_json_and_binary_mix_freely(client, model, datatype, array, binary_in, binary_out):
    inputs, outputs = tensors(client, array, datatype, binary_in=binary_in, binary_out=binary_out)
    result = await client("infer", model, inputs, outputs=outputs)
    got = result.as_numpy("OUTPUT0")
    expected = array if binary_out or datatype != "BYTES" else np.array([[e.decode() for e in array[0]]], np.object_)
    np.testing.assert_array_equal(got, expected)
    assert ("data" in result.get_output("OUTPUT0")) is not binary_out


@pytest.mark.parametrize("there", [None, "gzip", "deflate"])
@pytest.mark.parametrize("back", [None, "gzip", "deflate"])
async def test_compression_both_ways(client, there, back):
    options = {"request_compression_algorithm": there, "response_compression_algorithm": back}
    result = await client.infer("identity_fp32", INPUT0=ROWS, wanted=options)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ROWS)


@pytest.mark.parametrize(("coding", "inflate"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_answers_are_really_compressed(extra, coding, inflate):
    body, _ = httpclient.InferenceServerClient.generate_request_body(
        [_input(ROWS)], outputs=[httpclient.InferRequestedOutput("OUTPUT0", binary_data=False)]
    )
    # Triton's clients send tensors behind the JSON: its length is what precedes them.
    headers = {"Accept-Encoding": coding, "Inference-Header-Content-Length": str(len(body) - ROWS.nbytes)}
    request = urllib.request.Request(f"http://{extra.http}/v2/models/identity_fp32/infer", body, headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["content-encoding"] == coding
        raw = answer.read()
    assert json.loads(inflate(raw))["outputs"][0]["data"] == ROWS[0].tolist()


def _input(array):
    made = httpclient.InferInput("INPUT0", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


def test_async_infer_answers_each_its_own(extra):
    with httpclient.InferenceServerClient(extra.http, concurrency=8) as client:
        sent = [np.full((1, 4), i, np.float32) for i in range(64)]
        handles = [client.async_infer("echo", [_input(array)], request_id=str(i)) for i, array in enumerate(sent)]
        for i, (handle, array) in enumerate(zip(handles, sent, strict=True)):
            result = handle.get_result()
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
            assert result.get_response()["id"] == str(i)


def test_a_client_that_waits_too_short_gives_up(extra):
    with (
        httpclient.InferenceServerClient(extra.http, network_timeout=0.02) as client,
        pytest.raises((TimeoutError, InferenceServerException)),
    ):
        client.infer("slow", [_input(np.ones((1, 4), np.float32))])


@pytest.mark.parametrize("module", [httpclient, aioclient])
def test_bodies_made_apart_are_understood_and_answers_parsed_apart(module, extra):
    body, json_size = module.InferenceServerClient.generate_request_body([_input(ROWS)])
    headers = {} if json_size is None else {"Inference-Header-Content-Length": str(json_size)}
    request = urllib.request.Request(f"http://{extra.http}/v2/models/identity_fp32/infer", body, headers)
    with urllib.request.urlopen(request) as answer:
        header_length = answer.headers["Inference-Header-Content-Length"]
        raw = answer.read()
    result = module.InferenceServerClient.parse_response_body(
        raw, header_length=None if header_length is None else int(header_length)
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ROWS)


async def test_headers_and_query_parameters_do_no_harm(client):
    inputs, _ = tensors(client, ROWS, "FP32", binary_in=True, binary_out=True)
    result = await client(
        "infer", "identity_fp32", inputs, headers={"x-request-id": "abc"}, query_params={"a": "b", "c": [1, 2]}
    )
    assert result.as_numpy("OUTPUT0").shape == ROWS.shape


async def test_fp16_has_no_json_form_and_the_message_says_so(client):
    inputs, outputs = tensors(client, np.ones((1, 2), np.float16), "FP16", binary_in=True, binary_out=False)
    with pytest.raises(InferenceServerException, match="FP16"):
        await client("infer", "identity_fp16", inputs, outputs=outputs)
