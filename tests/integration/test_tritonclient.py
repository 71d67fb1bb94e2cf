"""tritonclient's http, http.aio, grpc and grpc.aio clients, unchanged, against a gateway of its own process."""

import ml_dtypes
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

pytestmark = [
    pytest.mark.xdist_group("demo"),
    # tritonclient's http.aio leaves answers unread where it raises; aiohttp warns when they are collected
    pytest.mark.filterwarnings("ignore:.*Connection.__del__:pytest.PytestUnraisableExceptionWarning"),
]

RNG = np.random.default_rng(5)


def integers(dtype):
    info = np.iinfo(dtype)
    return np.array([[info.min, info.max, 0], [1, 2, 3]], dtype)


VALUES = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": integers(np.uint8),
    "UINT16": integers(np.uint16),
    "UINT32": integers(np.uint32),
    "UINT64": integers(np.uint64),
    "INT8": integers(np.int8),
    "INT16": integers(np.int16),
    "INT32": integers(np.int32),
    "INT64": integers(np.int64),
    "FP16": np.array([[1.5, -0.0, 65504, np.inf]], np.float16),
    "BF16": np.array([[1.5, -2.0, 3.0, np.inf, 2.0**100]], ml_dtypes.bfloat16),
    "FP32": np.array([[1.1, -0.0, np.nan, np.inf, -np.inf, np.finfo(np.float32).tiny]], np.float32),
    "FP64": np.array([[1.1, np.nan, -np.inf, np.finfo(np.float64).max]], np.float64),
    "BYTES": np.array([[b"", "ä€😀".encode(), b"a\nb"], [b"x" * 5000, b"{}", b'"']], np.object_),
}


@pytest.mark.parametrize("datatype", VALUES)
async def test_every_datatype_comes_back_as_it_went(client, datatype):
    sent = VALUES[datatype]
    result = await client.infer(f"identity_{datatype.lower()}", datatype, INPUT0=sent, request_id="7")
    got = result.as_numpy("OUTPUT0")
    np.testing.assert_array_equal(got, sent)
    assert got.shape == sent.shape
    response = result.get_response()
    assert (response["id"] if client.http else response.id) == "7"


async def test_only_requested_outputs_come(client):
    result = await client.infer(
        "identity_fp32", INPUT0=np.ones((1, 2), np.float32), outputs=[client.output("OUTPUT0")], model_version="1"
    )
    assert result.as_numpy("OUTPUT0").tolist() == [[1, 1]]
    assert result.as_numpy("OTHER") is None


async def test_classification(demo_client):
    rows = np.zeros((2, 64), np.float32)
    wanted = [demo_client.output("probabilities", class_count=3)]
    result = await demo_client.infer("digits", X=rows, outputs=wanted)
    classes = result.as_numpy("probabilities")
    plain = (await demo_client.infer("digits", X=rows)).as_numpy("probabilities")
    assert classes.shape == (2, 3)
    best = int(np.argmax(plain[0]))
    score, index, label = classes[0][0].decode().split(":")
    assert (index, label) == (str(best), str(best))
    assert float(score) == pytest.approx(plain[0][best], abs=1e-6)


async def test_health(demo_client):
    assert await demo_client("is_server_live") is True
    assert await demo_client("is_server_ready") is True
    assert await demo_client("is_model_ready", "digits") is True
    assert await demo_client("is_model_ready", "digits", "2") is True


async def test_metadata(demo_client):
    server = await demo_client.json("get_server_metadata")
    assert {"name", "version", "extensions"} <= server.keys()
    assert "classification" in server["extensions"]
    model = await demo_client.json("get_model_metadata", "digits")
    assert model["versions"] == ["1", "2"]
    assert model["platform"] == "onnxruntime_onnx"
    assert [(i["name"], i["datatype"], [int(d) for d in i["shape"]]) for i in model["inputs"]] == [
        ("X", "FP32", [-1, 64])
    ]
    assert [o["name"] for o in model["outputs"]] == ["label", "probabilities"]


async def test_config(demo_client):
    config = await demo_client.json("get_model_config", "digits", "1")
    config = config.get("config", config)  # gRPC wraps it
    assert config["name"] == "digits"
    assert config["max_batch_size"] == 64
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert "dynamic_batching" in config


async def test_repository_index(demo_client):
    index = await demo_client.json("get_model_repository_index")
    entries = index if demo_client.http else index["models"]
    states = {(e["name"], e["version"]): e.get("state") for e in entries}
    assert states["digits", "1"] == states["digits", "2"] == "READY"


async def test_statistics_count_rows_and_executions(client):
    async def counts():
        stats = (await client.json("get_inference_statistics", "echo", "1"))["model_stats"]
        assert [(s["name"], s["version"]) for s in stats] == [("echo", "1")]
        return int(stats[0].get("inference_count", 0)), int(stats[0].get("execution_count", 0))

    rows, runs = await counts()
    await client.infer("echo", INPUT0=np.ones((3, 4), np.float32))
    assert await counts() == (rows + 3, runs + 1)


async def test_statistics_of_all_models(client):
    names = {s["name"] for s in (await client.json("get_inference_statistics"))["model_stats"]}
    assert {"echo", "slow", "identity_bf16"} <= names


ONES = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    ("model", "version", "datatype", "arrays", "words", "codes"),
    [
        ("nosuch", "", "FP32", {"INPUT0": ONES}, "Request for unknown model: 'nosuch' is not found", "404 NOT_FOUND"),
        ("echo", "9", "FP32", {"INPUT0": ONES}, "'echo' version 9 is not found", "404 NOT_FOUND"),
        (
            "echo",
            "",
            "INT32",
            {"INPUT0": ONES.astype(np.int32)},
            "inference input 'INPUT0' data-type is 'INT32', but model 'echo' expects 'FP32'",
            "400 INVALID_ARGUMENT",
        ),
        (
            "echo",
            "",
            "FP32",
            {"INPUT0": np.ones((1, 3), np.float32)},
            "unexpected shape for input 'INPUT0' for model 'echo'. Expected [-1,4], got [1,3]. ",
            "400 INVALID_ARGUMENT",
        ),
        ("echo", "", "FP32", {"OTHER": ONES}, "INPUT0", "400 INVALID_ARGUMENT"),
        ("echo", "", "FP32", {"INPUT0": ONES, "MORE": ONES}, "'MORE' for model 'echo'", "400 INVALID_ARGUMENT"),
        (
            "slow",
            "",
            "FP32",
            {"INPUT0": np.ones((2, 4), np.float32)},
            "inference request batch-size must be <= 1 for 'slow'",
            "400 INVALID_ARGUMENT",
        ),
    ],
)
async def test_refusals_keep_tritons_wording(client, model, version, datatype, arrays, words, codes):
    with pytest.raises(InferenceServerException) as caught:
        await client.infer(model, datatype, model_version=version, **arrays)
    assert words in caught.value.message()
    http, grpc = codes.split()
    assert caught.value.status() == (http if client.http else f"StatusCode.{grpc}")


async def test_missing_inputs_are_named(client):
    with pytest.raises(InferenceServerException) as caught:
        await client("infer", "echo", [])
    assert "missing required input(s) ['INPUT0']" in caught.value.message()


async def test_an_unknown_model_is_an_error_everywhere(client):
    for method in ("get_model_metadata", "get_model_config", "get_inference_statistics"):
        with pytest.raises(InferenceServerException, match="'nosuch' is not found"):
            await client(method, "nosuch")
    assert not await _ready(client, "nosuch")


async def _ready(client, model):
    try:
        return await client("is_model_ready", model)
    except InferenceServerException as error:  # grpc says NOT_FOUND, http only false
        assert "not found" in error.message()
        return False


async def test_the_deadline_parameter_is_in_microseconds(client):
    with pytest.raises(InferenceServerException) as caught:
        await client.infer("slow", INPUT0=ONES, timeout=1000)
    assert caught.value.status() == ("504" if client.http else "StatusCode.DEADLINE_EXCEEDED")


async def test_request_parameters_reach_the_model(client):
    with pytest.raises(InferenceServerException, match="scripted failure"):
        await client.infer("echo", INPUT0=ONES, parameters={"echo_fail": "bad_input"})


async def test_a_large_tensor_both_ways(client):
    sent = RNG.random((1, 250_000), np.float32)
    result = await client.infer("identity_fp32", INPUT0=sent)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent)
