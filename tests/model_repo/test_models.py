"""The models themselves: what the configs promise is what ONNX Runtime finds, and the answers make sense."""

import itertools
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from gateway.cli.features import featurise

ORT_TYPES = {
    "TYPE_FP32": "tensor(float)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_STRING": "tensor(string)",
}
FETCHED = {"filetype", "doc_orientation", "doc_orientation_jpeg", "text_embed", "text_embed_raw"}


def built(folder):
    return sorted(path for path in folder.iterdir() if (path / "config.pbtxt").is_file())


def toml_of(folder):
    path = folder / "model.toml"
    return tomllib.loads(path.read_text()) if path.exists() else {}


def v2_inputs(config):
    """The inputs as the gateway's metadata lists them."""
    names = {"TYPE_STRING": "BYTES"}
    lead = [-1] if config.max_batch_size else []
    types = {i.name: type(config).DESCRIPTOR.file.enum_types_by_name["DataType"] for i in config.input}
    return [
        {
            "name": tensor.name,
            "datatype": names.get(label := types[tensor.name].values_by_number[tensor.data_type].name, label[5:]),
            "shape": [*lead, *tensor.dims],
        }
        for tensor in config.input
    ]


@pytest.fixture(scope="module")
def session_of(repository, open_session):
    sessions = {}

    def get(model, version):
        if model in FETCHED and not (repository / model).exists():
            pytest.skip(f"{model} was not built: no package index in reach")
        if (model, version) not in sessions:
            folder = repository / model
            extensions = "custom_ops" in toml_of(folder)
            sessions[model, version] = open_session(folder / str(version) / "model.onnx", extensions)
        return sessions[model, version]

    return get


def test_the_models_that_need_no_index_are_there(repository):
    names = {path.name for path in built(repository)}
    assert {"tabular_cancer", "digits"} <= names <= {"tabular_cancer", "digits", *FETCHED}


def test_configs_agree_with_the_model_files(repository, bench, read_config, open_session):
    for folder in [*built(repository), *built(bench)]:
        config = read_config(folder)
        assert config.name == folder.name
        versions = [path for path in folder.iterdir() if path.name.isdigit()]
        assert versions
        for version in versions:
            session = open_session(version / "model.onnx", "custom_ops" in toml_of(folder))
            for declared, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
                assert [port(config, tensor) for tensor in declared] == [found_port(config, item) for item in found]


def port(config, tensor):
    kind = type(config).DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number[tensor.data_type].name
    return tensor.name, ORT_TYPES[kind], list(tensor.dims)


def found_port(config, item):
    dims = [dim if isinstance(dim, int) else -1 for dim in item.shape]
    if config.max_batch_size:
        assert dims[0] == -1
    return item.name, item.type, dims[1:] if config.max_batch_size else dims


def test_label_files_name_each_value(repository, read_config):
    for folder in built(repository):
        for output in read_config(folder).output:
            if output.label_filename:
                labels = (folder / output.label_filename).read_text().splitlines()
                assert len(labels) == len(set(labels)) == output.dims[-1]


def test_versions_served(repository, read_config):
    assert list(read_config(repository / "tabular_cancer").version_policy.specific.versions) == [1, 2]
    assert (repository / "tabular_cancer" / "3" / "model.onnx").is_file()
    assert read_config(repository / "digits").version_policy.HasField("all")


def test_each_example_is_read_by_client_input_and_runs(repository, read_config, session_of):
    for folder in built(repository):
        for example in folder.glob("example.*"):
            arrays = featurise(toml_of(folder)["client"]["input"], example.read_bytes(), v2_inputs(read_config(folder)))
            if "text" in arrays:
                arrays["text"] = np.array([[t.decode()] for t in arrays["text"].ravel()], object)
            rows = session_of(folder.name, 1).run(None, arrays)[0]
            assert len(rows) == len(next(iter(arrays.values()))) or not read_config(folder).max_batch_size


def test_version_3_disagrees_with_version_1_on_at_least_30_percent(session_of):
    from sklearn.datasets import load_breast_cancer

    rows = load_breast_cancer().data.astype(np.float32)
    first, second, third = (session_of("tabular_cancer", v).run(["label"], {"X": rows})[0] for v in (1, 2, 3))
    assert (first != third).mean() >= 0.3
    assert (first != second).mean() < 0.1


@pytest.mark.parametrize("version", [1, 2])
def test_digits_are_read(session_of, version):
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    answers, shares = session_of("digits", version).run(None, {"X": rows.astype(np.float32)})
    assert answers.shape == (len(rows), 1)
    assert (answers[:, 0] == labels).mean() > 0.95
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_filetype_names_this_file(repository, read_config, session_of, version):
    session = session_of("filetype", version)
    folder = repository / "filetype"
    arrays = featurise(toml_of(folder)["client"]["input"], Path(__file__).read_bytes(), v2_inputs(read_config(folder)))
    shares = session.run(None, arrays)[0][0]
    assert (folder / "labels.txt").read_text().splitlines()[shares.argmax()] == "python"


def test_image_bytes_and_image_tensor_agree_however_the_page_is_turned(session_of):
    from recipes import page

    by_file, by_planes = session_of("doc_orientation_jpeg", 1), session_of("doc_orientation", 1)
    upright = page.drawn()
    for turns, degrees in enumerate((0, 90, 180, 270)):
        turned = np.ascontiguousarray(np.rot90(upright, -turns))
        file = np.frombuffer(page.jpeg(turned), np.uint8)
        by_bytes = by_file.run(None, {"image": file})[0]
        by_tensor = by_planes.run(None, {"x": page.tensor(turned)})[0][0]
        assert 90 * by_bytes.argmax() == 90 * by_tensor.argmax() == degrees


def test_a_damaged_image_is_an_error_and_not_the_end(repository, session_of):
    session = session_of("doc_orientation_jpeg", 1)
    file = (repository / "doc_orientation_jpeg" / "example.jpg").read_bytes()
    for broken in (b"\xff", b"no image", file[:200], file[:4] + b"\xff" * 60 + file[64:]):
        with pytest.raises(Exception, match="DecodeImage"):
            session.run(None, {"image": np.frombuffer(broken, np.uint8)})
    assert session.run(None, {"image": np.frombuffer(file[: len(file) // 2], np.uint8)})[0].shape == (4,)


TEXTS = {
    "The dog barks at night.": [1996, 3899, 11286, 2015, 2012, 2305, 1012],
    "Héllo Wörld! naïve café": [7592, 2088, 999, 15743, 7668],
    "don't stop-me_now 3.14%": [2123, 1005, 1056, 2644, 1011, 2033, 1035, 2085, 1017, 1012, 2403, 1003],
    "": [],
}


def encoded(session, ids):
    ids = np.array([[101, *ids, 102]], np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    mean = session.run(None, feeds)[0][0].mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_text_gives_the_embedding_of_its_token_ids(session_of):
    texts = np.array(list(TEXTS), object)[:, None]
    together = session_of("text_embed_raw", 1).run(None, {"text": texts})[0]
    for text, ids, embedding in zip(TEXTS, TEXTS.values(), together, strict=True):
        alone = session_of("text_embed_raw", 1).run(None, {"text": np.array([[text]], object)})[0][0]
        np.testing.assert_allclose(embedding, encoded(session_of("text_embed", 1), ids), atol=1e-6)
        np.testing.assert_allclose(embedding, alone, atol=1e-6)


def test_long_texts_are_cut_and_like_texts_are_near(session_of):
    texts = ["word " * 126, "word " * 900, "A dog is barking", "The puppy is making noise", "Interest rates rose"]
    found = session_of("text_embed_raw", 1).run(None, {"text": np.array(texts, object)[:, None]})[0]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    near, far = found[2] @ found[3], found[2] @ found[4]
    assert near > 0.3 > far


def test_padding_beside_longer_rows_changes_nothing(repository, session_of):
    session = session_of("text_embed", 1)
    settings = toml_of(repository / "text_embed")["padding"]
    example = json.loads((repository / "text_embed" / "example.json").read_text())
    alone = {name: np.array(value) for name, value in example.items()}
    length = alone[settings["mask"]].shape[settings["axis"]]
    bucket = next(size for size in settings["buckets"] if size > length)
    padded = {name: np.pad(value, ((0, 1), (0, bucket - length))) for name, value in alone.items()}
    padded[settings["mask"]][1] = 1
    np.testing.assert_allclose(session.run(None, padded)[0][0, :length], session.run(None, alone)[0][0], atol=1e-6)


@pytest.mark.parametrize(("model", "shape"), [("tiny", (16,)), ("image", (3, 224, 224))])
def test_bench_models_treat_rows_apart(bench, open_session, model, shape):
    session = open_session(bench / model / "1" / "model.onnx")
    rows = np.random.default_rng(0).random((4, *shape), np.float32)
    together = session.run(None, {"x": rows})[0]
    assert together.shape == (4, 8)
    assert len(np.unique(together, axis=0)) == 4
    for row, answer in zip(rows, together, strict=True):
        np.testing.assert_allclose(session.run(None, {"x": row[None]})[0][0], answer, atol=1e-6)


def test_bench_transformer_heeds_its_mask(bench, open_session):
    session = open_session(bench / "transformer" / "1" / "model.onnx")
    ids = np.arange(64).reshape(2, 32)
    mask = np.ones((2, 32), np.int64)
    mask[:, 20:] = 0
    answer = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    ids[:, 20:] = 7
    again = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    assert answer.shape == (2, 384)
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(again, answer, atol=1e-5)
    assert all(np.abs(a - b).max() > 0.01 for a, b in itertools.combinations(answer, 2))
