"""Answers are ONNX Runtime's own, for every demo model and version, alone, batched and under concurrent clients.

Bit-equal to `session.run` with one thread on the same batch; against single rows within 1e-6.
"""

import asyncio
import functools
import json
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytestmark = [
    pytest.mark.xdist_group("demo"),
    # aiohttp's advice for bodies above 1 MB; tritonclient's http.aio sends bytes
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]

DEMO = Path(__file__).parents[2] / "model_repo/repository"
CLIENTS = 16
BUCKETS = (8, 16)  # two of text_embed's padding buckets: these lengths are executed as they are
WORDS = ["the", "dog", "barks", "at", "night", "while", "rates", "rose", "by", "a", "quarter", "point", "in", "Paris"]


def png(rng):
    """A small RGB image of noise as a PNG file."""
    width, height = 40, 30
    lines = b"".join(b"\0" + rng.bytes(3 * width) for _ in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tokens(rng, rows, length):
    return {
        "input_ids": rng.integers(1000, 20000, (rows, length)),
        "attention_mask": np.ones((rows, length), np.int64),
        "token_type_ids": np.zeros((rows, length), np.int64),
    }


def texts(rng, rows):
    sentences = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(rows)]
    return {"text": np.array([[text.encode()] for text in sentences], np.object_)}


@functools.cache
def examples(model):
    return np.loadtxt(DEMO / model / "example.csv", delimiter=",", dtype=np.float32, ndmin=2)


def near_examples(model, rng, rows):
    """Varied rows of the kind the model was made for (far from it, rounding grows through the softmax)."""
    chosen = examples(model)[rng.integers(0, len(examples(model)), rows)]
    return {"X": (chosen * (1 + 0.05 * rng.standard_normal(chosen.shape))).astype(np.float32)}


def file_ends(rng, rows):
    """Windows of this folder's sources: text, as the model gets it."""
    source = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    starts = rng.integers(0, len(source) - 2048, rows)
    return {"bytes": np.stack([np.frombuffer(source, np.uint8, 2048, start) for start in starts]).astype(np.int32)}


# One input a call: rng, rows -> inputs. Distinct rows, so that an answer that went astray is seen.
MAKE = {
    "digits": partial(near_examples, "digits"),
    "tabular_cancer": partial(near_examples, "tabular_cancer"),
    "filetype": file_ends,
    "doc_orientation": lambda rng, rows: {"x": rng.standard_normal((rows, 3, 224, 224), np.float32)},
    "doc_orientation_jpeg": lambda rng, _: {"image": np.frombuffer(png(rng), np.uint8)},
    "text_embed": lambda rng, rows: tokens(rng, rows, int(rng.choice(BUCKETS))),
    "text_embed_raw": texts,
}
DATATYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "object": "BYTES"}


@functools.cache
def session(repository, model, version):
    """ONNX Runtime without the gateway, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    toml = (repository / model / "model.toml").read_text()
    if "onnxruntime-extensions" in toml:
        import onnxruntime_extensions

        options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return onnxruntime.InferenceSession(repository / model / version / "model.onnx", options)


def run(session, inputs):
    """ONNX Runtime's own answer; strings go in as text."""
    feed = {n: np.vectorize(bytes.decode, otypes=[object])(a) if a.dtype == object else a for n, a in inputs.items()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def rows_of(inputs):
    return [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(len(next(iter(inputs.values()))))]


def single_rows(session, inputs, batched):
    """Each row's own answer, one below the other."""
    if not batched:
        return run(session, inputs)
    answers = [run(session, row) for row in rows_of(inputs)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


async def ask(client, model, version, inputs):
    made = []
    for name, array in inputs.items():
        made.append(client.module.InferInput(name, list(array.shape), DATATYPES[array.dtype.name]))
        made[-1].set_data_from_numpy(array)
    return await client("infer", model, made, model_version=version)


def assert_answer(result, expected, *, exact):
    for name, values in expected.items():
        got = result.as_numpy(name)
        assert got is not None, name
        want = values.reshape(got.shape)  # `label` is [rows] inside and [rows, 1] outside
        if exact or want.dtype.kind in "iOU":
            np.testing.assert_array_equal(got, want, name)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6, err_msg=name)


async def served(client):
    """Every (model, version, max batch size) that the gateway has READY."""
    models = []
    for entry in await client("get_model_repository_index"):
        if entry.get("state") == "READY":
            config = await client("get_model_config", entry["name"], entry["version"])
            models.append((entry["name"], entry["version"], config.get("max_batch_size", 0)))
    return models


async def test_every_served_model_is_covered_here(open_client, demo, demo_repository):
    models = await served(open_client("http.aio", demo))
    assert {model for model, _, _ in models} == set(MAKE) & {path.name for path in demo_repository.iterdir()}
    assert {model for model, _, _ in models} <= set(MAKE)
    assert len(models) >= 7


@pytest.mark.parametrize("kind", ["http", "http.aio", "grpc", "grpc.aio"])
async def test_alone_and_batched_answers_are_bit_equal(open_client, demo, demo_repository, kind):
    client = open_client(kind, demo)
    rng = np.random.default_rng(7)
    for model, version, max_batch in await served(open_client("http.aio", demo)):
        reference = session(demo_repository, model, version)
        for rows in sorted({1, 3, max_batch}) if max_batch else [0]:
            inputs = MAKE[model](rng, rows)
            result = await ask(client, model, version, inputs)
            assert_answer(result, run(reference, inputs), exact=True)
            if max_batch and rows == 3:
                assert_answer(result, single_rows(reference, inputs, True), exact=False)


async def test_more_rows_than_a_batch_holds_are_split_and_rejoined(open_client, demo, demo_repository):
    client = open_client("grpc.aio", demo)
    rng = np.random.default_rng(8)
    for model, version, max_batch in await served(open_client("http.aio", demo)):
        if max_batch:
            inputs = MAKE[model](rng, 2 * max_batch + 1)
            expected = single_rows(session(demo_repository, model, version), inputs, True)
            assert_answer(await ask(client, model, version, inputs), expected, exact=False)


async def test_text_of_any_length_is_padded_without_a_trace(open_client, demo, demo_repository):
    """Different lengths at once share padded batches; each answer is that of its own length alone."""
    if not (demo_repository / "text_embed").is_dir():
        return
    client = open_client("grpc.aio", demo)
    reference = session(demo_repository, "text_embed", "1")
    rng = np.random.default_rng(9)
    calls = [tokens(rng, rows, length) for rows, length in ((1, 3), (2, 5), (1, 7), (1, 9), (1, 13), (1, 33))]
    results = await asyncio.gather(*(ask(client, "text_embed", "1", inputs) for inputs in calls))
    for result, inputs in zip(results, calls, strict=True):
        expected = run(reference, inputs)
        assert result.as_numpy("last_hidden_state").shape == expected["last_hidden_state"].shape
        assert_answer(result, expected, exact=False)


async def test_sixteen_clients_at_once_get_their_own_rows(open_client, demo, demo_repository):
    clients = [open_client("http.aio" if i % 2 else "grpc.aio", demo) for i in range(CLIENTS)]
    for model, version, max_batch in await served(open_client("http.aio", demo)):
        reference = session(demo_repository, model, version)
        calls = 8 if model in ("digits", "tabular_cancer") else 1
        rngs = [np.random.default_rng(100 + i) for i in range(CLIENTS)]
        batches = [[MAKE[model](rng, 1 + n % 3 if max_batch else 0) for n in range(calls)] for rng in rngs]

        async def work(client, mine, model=model, version=version):
            return [await ask(client, model, version, inputs) for inputs in mine]

        answers = await asyncio.gather(*(work(*pair) for pair in zip(clients, batches, strict=True)))
        for results, mine in zip(answers, batches, strict=True):
            for result, inputs in zip(results, mine, strict=True):
                assert_answer(result, single_rows(reference, inputs, bool(max_batch)), exact=False)


async def test_json_answers_equal_binary_ones(open_client, demo, demo_repository):
    client = open_client("http", demo)
    inputs = MAKE["digits"](np.random.default_rng(3), 5)
    made = client.module.InferInput("X", [5, 64], "FP32")
    made.set_data_from_numpy(inputs["X"], binary_data=False)
    outputs = [client.output(name, binary_data=False) for name in ("label", "probabilities")]
    result = await client("infer", "digits", [made], outputs=outputs, model_version="1")
    assert json.dumps(result.get_response())
    assert_answer(result, run(session(demo_repository, "digits", "1"), inputs), exact=True)
