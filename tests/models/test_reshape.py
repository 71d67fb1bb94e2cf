"""A config.pbtxt that reshapes tensors or leaves outputs out gives clients its own view of the model."""

import numpy as np
import pytest

from gateway.models.complete import complete
from gateway.models.pbtxt import parse_pbtxt
from gateway.models.reshape import view_of
from runtimes import open_runtime
from runtimes.base import ExecuteCall, ExecutionFailed, Instance, LoadOptions, ModelSource


@pytest.fixture
async def view(folder):
    """Open an echo model with `inputs` and put config.pbtxt's view over it."""
    runtime = open_runtime("echo")
    made = []

    def make(text, inputs, **script):
        folder.echo("m", inputs=inputs, **script)
        source = ModelSource("m", "1", folder.root / "m" / "1" / "model.json", folder.root)
        facts = runtime.inspect(source, LoadOptions())
        instance = runtime.load(source, LoadOptions(instances=3))
        made.append(instance)
        config = complete(parse_pbtxt("m", text.encode()), facts, "echo", "model.json")
        return instance, view_of(instance, config, facts.signature)

    yield make
    for instance in made:
        await instance.close()
    runtime.close()


def run(instance, **inputs):
    results = []
    instance.submit(
        ExecuteCall({name: np.asarray(value, np.float32) for name, value in inputs.items()}), results.append
    )
    return results[0]


RESHAPED = """max_batch_size: 4
  input { name: 'INPUT0' dims: [6, -1] reshape { shape: [-1, 3, 2] } }
  output { name: 'OUTPUT0' dims: [1, 6, -1] reshape { shape: [-1, 3, 2] } }"""


def test_view_reshapes_in_and_out(view):
    _, instance = view(RESHAPED, ["INPUT0:FP32:-1,-1,3,2"])
    x = np.arange(2 * 6 * 5).reshape(2, 6, 5)
    result = run(instance, INPUT0=x)
    assert result["OUTPUT0"].shape == (2, 1, 6, 5)
    assert result["OUTPUT0"].ravel().tolist() == x.ravel().tolist()


def test_view_reshapes_each_streamed_part(view):
    _, instance = view(RESHAPED, ["INPUT0:FP32:-1,-1,3,2"])
    parts, results = [], []
    call = ExecuteCall({"INPUT0": np.zeros((1, 6, 1), np.float32)})
    instance.submit_stream(call, parts.append, results.append)
    assert [answer["OUTPUT0"].shape for answer in parts + results] == [(1, 1, 6, 1)]


def test_view_bad_input_is_the_clients_fault_in_both_calls(view):
    _, instance = view(RESHAPED, ["INPUT0:FP32:-1,-1,3,2"])
    wrong = ExecuteCall({"INPUT0": np.zeros((1, 5, 1), np.float32)})
    results = []
    instance.submit(wrong, results.append)
    instance.submit_stream(wrong, results.append, results.append)
    instance.submit(ExecuteCall({"INPUT0": np.zeros(1, np.float32)}), results.append)
    assert len(results) == 3
    assert all(isinstance(result, ExecutionFailed) and result.bad_input for result in results)


def test_view_output_that_does_not_fit_is_the_models_fault(view):
    output = "output { name: 'OUTPUT0' dims: [2] reshape { shape: [1, 2] } }"
    text = f"max_batch_size: 4 input {{ name: 'INPUT0' dims: -1 }} {output}"
    _, instance = view(text, ["INPUT0:FP32:-1,-1"])
    result = run(instance, INPUT0=[[1, 2, 3]])
    assert isinstance(result, ExecutionFailed)
    assert not result.bad_input
    assert result.message == "output 'OUTPUT0' has shape [1,3], expected [-1,1,2]"


def test_view_leaves_unlisted_outputs_out(view):
    text = "max_batch_size: 4 output { name: 'OUTPUT1' }"
    _, instance = view(text, ["INPUT0:FP32:-1,2", "INPUT1:FP32:-1,2"])
    assert list(run(instance, INPUT0=[[1, 2]], INPUT1=[[3, 4]])) == ["OUTPUT1"]


async def test_view_passes_slots_failures_and_close_on(view):
    own, instance = view("max_batch_size: 4 output { name: 'OUTPUT1' }", ["INPUT0:FP32:-1,2", "INPUT1:FP32:-1,2"])
    assert isinstance(instance, Instance)
    assert instance.slots == 3
    instance.slots = 2
    assert own.slots == 2
    await instance.close()
    result = run(instance, INPUT0=[[1, 2]], INPUT1=[[3, 4]])
    assert isinstance(result, ExecutionFailed)
    assert "closed" in result.message


@pytest.mark.parametrize("text", ["", "max_batch_size: 8", "max_batch_size: 1 input { name: 'INPUT0' dims: 2 }"])
def test_view_of_a_plain_model_is_the_model_itself(view, text):
    own, instance = view(text, ["INPUT0:FP32:-1,2"])
    assert instance is own
