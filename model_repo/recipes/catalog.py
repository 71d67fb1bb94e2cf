"""The two sets of recipes: the demo repository, and the models of the benchmark."""

from __future__ import annotations

from . import Recipe, bench, extended, fetched, trained

TRAINING = ("scikit-learn", "skl2onnx", "onnx", "numpy")
EXTENSIONS = ("onnx", "onnxruntime", "onnxruntime-extensions")

DEMO = (
    Recipe("tabular_cancer", trained.tabular_cancer, TRAINING),
    Recipe("digits", trained.digits, TRAINING),
    Recipe("filetype", fetched.filetype),
    Recipe("doc_orientation", fetched.doc_orientation, ("numpy",)),
    Recipe("doc_orientation_jpeg", extended.doc_orientation_jpeg, EXTENSIONS),
    Recipe("text_embed", fetched.text_embed),
    Recipe("text_embed_raw", extended.text_embed_raw, EXTENSIONS),
)

BENCH = (
    Recipe("tiny", bench.tiny, ("onnx", "numpy")),
    Recipe("image", bench.image, ("onnx", "numpy")),
    Recipe("transformer", bench.transformer, ("onnx", "numpy")),
)
