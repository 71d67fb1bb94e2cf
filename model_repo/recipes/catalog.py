"""The two sets of recipes: the demo repository, and the models of the benchmark."""

from __future__ import annotations

from . import Recipe, bench, trained

TRAINING = ("scikit-learn", "skl2onnx", "onnx", "numpy")

DEMO = (
    Recipe("tabular_cancer", trained.tabular_cancer, TRAINING),
    Recipe("digits", trained.digits, TRAINING),
)

BENCH = (
    Recipe("tiny", bench.tiny, ("onnx", "numpy")),
    Recipe("image", bench.image, ("onnx", "numpy")),
    Recipe("transformer", bench.transformer, ("onnx", "numpy")),
)
