"""What is printed at start can be pasted: every line of it is answered."""

import asyncio
import contextlib
import io
import json
import shlex

import pytest

from gateway.app.banner import banner


@pytest.fixture
async def printed(start, make_settings):
    async def run(**flags):
        serving = await start(**flags)
        return serving, banner(serving.worker.settings, serving.worker, serving.http_port, 9)

    return run


def examples(text):
    return [shlex.split(line) for line in text.partition("Try it:")[2].splitlines() if line.strip()]


MODELS = {
    "batched": ["FP32:-1,3"],
    "two inputs": ["FP32:-1,2", "INT64:-1,1"],
    "flags": ["BOOL:-1,2"],
    "unbatched": ["FP32:2,3"],
}


@pytest.mark.parametrize("inputs", MODELS.values(), ids=MODELS)
async def test_examples_are_answered(folder, printed, inputs):
    folder.onnx("sample", *inputs)
    serving, text = await printed()
    v2, v1, python = examples(text)
    for command, url, _, body in (v2, v1):
        assert command == "curl"
        answer = await serving.http.post(url, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 200, (body, answer.text)
        assert json.loads(body)["inputs"]
    _, flag, code = python
    assert flag == "-c"
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        await asyncio.to_thread(exec, code, {})
    assert 'model_name: "sample"' in output.getvalue()


async def test_models_and_doors_are_listed_with_reasons(folder, printed):
    folder.onnx("good", "FP32:-1,2")
    folder.echo("bad", pbtxt="max_batch_size: -4\n")
    serving, text = await printed()
    good, bad = sorted((line.split() for line in text.splitlines() if "  1  " in line), reverse=True)
    assert good[:3] == ["good", "1", "READY"]
    assert "warmed up in" in " ".join(good)
    assert bad[:3] == ["bad", "1", "UNAVAILABLE"]
    assert "max_batch_size" in " ".join(bad)
    for address in (f"http://127.0.0.1:{serving.http_port}/v2", f"127.0.0.1:{serving.worker.grpc_port}", ":9 "):
        assert address in text


async def test_smallest_example_is_shown(folder, printed):
    folder.onnx("wide", "FP32:-1,99")
    folder.onnx("narrow", "FP32:-1,3")
    folder.onnx("variable", "FP32:-1,-1")
    folder.echo("text", "INPUT0:BYTES:-1,1")
    _, text = await printed()
    assert "models/narrow/infer" in text
    assert "models/wide" not in text


async def test_nothing_is_offered_that_would_not_be_answered(folder, printed):
    folder.onnx("variable", "FP32:-1,-1")
    _, text = await printed()
    assert "variable" in text
    assert "Try it" not in text


async def test_ipv6_host_is_written_as_urls_want_it(folder, printed):
    folder.onnx("good", "FP32:-1,2")
    _, text = await printed(host="::1", http_port=0)
    assert "http://[::1]:" in text
