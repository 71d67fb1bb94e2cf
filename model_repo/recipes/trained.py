"""Models trained here, in under a second each, from data sets that scikit-learn carries.

Fixed seeds and a fixed opset: the same packages give the same bytes.
"""

from __future__ import annotations

from typing import Any

from . import Made
from .graph import OPSET
from .wheels import Wheels

SPLIT_SEED = 0
TEST_SHARE = 0.25
FLIPPED_SHARE = 0.3
# Of seeds 0 to 15 the one whose tree disagrees most (33 % of all rows, 44 % of the held-out ones): room above the bar.
FLIP_SEED = 14
LEAST_DISAGREEMENT = 0.3


def tabular_cancer(wheels: Wheels) -> Made:
    """Breast cancer, 30 numbers a row. v1 scaler + logistic regression, v2 random forest, v3 spoilt on purpose.

    Raises AssertionError where v3 does not disagree with v1 on at least 30 % of the rows.
    """
    import numpy as np
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    rows, labels = load_breast_cancer(return_X_y=True)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    spoilt = labels[train].copy()
    flipped = np.random.default_rng(FLIP_SEED).choice(len(train), int(FLIPPED_SHARE * len(train)), replace=False)
    spoilt[flipped] = 1 - spoilt[flipped]
    # A fully grown tree with random splits learns the flipped labels by heart and generalises badly.
    tree = DecisionTreeClassifier(splitter="random", max_features=1, random_state=FLIP_SEED)
    models = {
        1: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows[train], labels[train]),
        2: RandomForestClassifier(n_estimators=100, random_state=0).fit(rows[train], labels[train]),
        3: tree.fit(rows[train], spoilt),
    }
    answers = {version: model.predict(rows) for version, model in models.items()}
    disagreement = float((answers[3] != answers[1]).mean())
    assert disagreement >= LEAST_DISAGREEMENT, f"version 3 disagrees with version 1 on {disagreement:.1%} of rows only"
    facts = {f"accuracy_v{v}": f"{(answers[v][test] == labels[test]).mean():.3f}" for v in models}
    facts["disagreement"] = f"{disagreement:.1%}"
    return _made(models, rows[test[:5]], "%.6g", facts)


def digits(wheels: Wheels) -> Made:
    """Handwritten digits, 64 pixels of 0 to 16 a row. v1 scaler + logistic regression, v2 scaler + MLP(64)."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        rows, labels, test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    mlp = MLPClassifier(hidden_layer_sizes=(64,), max_iter=60, tol=1e-3, early_stopping=False, random_state=0)
    models = {
        1: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, train_labels),
        2: make_pipeline(StandardScaler(), _quietly(mlp)).fit(train, train_labels),
    }
    facts = {f"accuracy_v{v}": f"{(model.predict(test) == test_labels).mean():.3f}" for v, model in models.items()}
    return _made(models, test[:5], "%g", facts)


def _quietly(mlp: Any) -> Any:
    """Stop the MLP at its iteration limit without the warning about it: the accuracy on the card tells enough."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    return mlp


def _made(models: dict[int, Any], examples: Any, number: str, facts: dict[str, str]) -> Made:
    lines = [",".join(number % value for value in row) + "\n" for row in examples]
    files = {f"{version}/model.onnx": _to_onnx(model, examples.shape[1]) for version, model in models.items()}
    return Made(files | {"example.csv": "".join(lines).encode()}, facts)


def _to_onnx(model: Any, columns: int) -> bytes:
    """Convert a classifier: X FP32 [N, columns] -> label INT64 [N, 1], probabilities FP32 [N, classes].

    The converter gives label the shape [N]; the added axis lets `dims` say it without a reshape in the config.
    """
    from onnx import helper, numpy_helper
    from onnx.checker import check_model
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    inputs = [("X", FloatTensorType([None, columns]))]
    onnx_model = convert_sklearn(model, "model", inputs, target_opset=OPSET, options={id(model): {"zipmap": False}})
    graph = onnx_model.graph
    for node in graph.node:
        node.output[:] = ["label_flat" if name == "label" else name for name in node.output]
    import numpy as np

    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "label_axis"))
    graph.node.append(helper.make_node("Unsqueeze", ["label_flat", "label_axis"], ["label"], name="LabelColumn"))
    label = next(output for output in graph.output if output.name == "label")
    label.type.tensor_type.shape.dim.add().dim_value = 1
    # The converter lists them in the order of a set of texts, which differs from process to process.
    opsets = sorted((opset.domain, opset.version) for opset in onnx_model.opset_import)
    del onnx_model.opset_import[:]
    onnx_model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in opsets)
    check_model(onnx_model)
    return bytes(onnx_model.SerializeToString(deterministic=True))
