"""`model_warmup` samples: read with their files, refused with the sample's and input's name."""

import pytest

from gateway.models.config import ModelConfigError, WarmUpTensor
from gateway.models.pbtxt import parse_pbtxt
from gateway.models.warmup_samples import read_samples


@pytest.fixture
def samples(tmp_path):
    return lambda text: read_samples(
        tmp_path, parse_pbtxt("m", f"max_batch_size: 4 model_warmup {{ {text} }}".encode())
    )


def tensor(how, dims="2"):
    return f"name: 's' inputs {{ key: 'x' value {{ data_type: TYPE_STRING dims: [{dims}] {how} }} }}"


def test_samples_are_read_with_their_files(samples, tmp_path):
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "raw").write_bytes(b"abc")
    sample = samples(tensor("input_data_file: 'raw'") + " batch_size: 2 count: 3")[0]
    assert (sample.name, sample.batch_size, sample.count) == ("s", 2, 3)
    assert sample.inputs == {"x": WarmUpTensor("BYTES", (2,), "file", b"abc")}
    assert samples(tensor("random_data: true"))[0].inputs["x"].fill == "random"
    assert samples(tensor("zero_data: true"))[0].count == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (tensor(""), "input 'x': needs zero_data, random_data or input_data_file"),
        (tensor("zero_data: true", "-1"), "input 'x': dims must be more than 0"),
        (tensor("input_data_file: 'absent'"), "input 'x': there is no file 'warmup/absent'"),
        (tensor("input_data_file: '../raw'"), "input 'x': 'warmup/../raw' must be a file name inside"),
        ("name: 's' count: 1001", "count must be at most 1000, got 1001"),
        ("name: 's' batch_size: 5", "batch_size must be at most max_batch_size (4), got 5"),
    ],
)
def test_samples_faults_are_named(samples, text, words):
    with pytest.raises(ModelConfigError, match=r"^model 'm': config[.]pbtxt: model_warmup 's'") as raised:
        samples(text)
    assert words in str(raised.value)
