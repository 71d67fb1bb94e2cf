"""Run as a script: do onnxruntime-extensions' operators work here, and do they survive damaged input?

Prints "fit" or the reason against it; a death or a hang is an answer too, which is why this is its own process.
"""

from __future__ import annotations

import base64
import sys

# A grey JPEG of 8 x 8 pixels.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19i"
    "Z2hnPk1xeXBkeFxlZ2P/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAf/EABgQAAIDAAAAAAAAAAAAAAAAAAADBmOh"
    "/9oACAEBAAA/ABEOrw//2Q=="
)


def main(kind: str) -> str:
    """Return "fit" or why not."""
    try:
        import onnxruntime
        from onnxruntime_extensions import get_library_path
    except ImportError:
        return "needs onnxruntime-extensions"
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    try:
        options.register_custom_ops_library(get_library_path())
        return try_image(options) if kind == "image" else "fit"
    except Exception as error:
        return f"onnxruntime-extensions does not run here: {str(error).splitlines()[0]}"


def try_image(options: object) -> str:
    """Decode a good image, then cut and damaged ones, which must be refused or decoded in part."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    node = helper.make_node("DecodeImage", ["image"], ["pixels"], domain="com.microsoft.extensions")
    ports = [("image", ["bytes"]), ("pixels", ["height", "width", "channels"])]
    image, pixels = (helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in ports)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft.extensions", 1)]
    graph = helper.make_graph([node], "probe", [image], [pixels])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    session.run(None, {"image": np.frombuffer(JPEG, np.uint8)})
    cuts = [JPEG[:size] for size in range(0, len(JPEG), 7)]
    damaged = [JPEG[:at] + b"\xff" * 30 + JPEG[at + 30 :] for at in range(4, len(JPEG), 29)]
    for content in cuts + damaged:
        try:
            session.run(None, {"image": np.frombuffer(content, np.uint8)})
        except Exception:  # refused, as it should be
            continue
    return "fit"


if __name__ == "__main__":
    print(main(sys.argv[1]))
