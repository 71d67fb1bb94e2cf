"""The server users write: FastAPI, pydantic models in and out, one ONNX Runtime session, a plain `def` endpoint."""

import sys

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    inputs: list[Tensor]


class InferResponse(BaseModel):
    model_name: str
    outputs: list[Tensor]


app = FastAPI()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
DTYPES = {"FP32": np.float32, "INT64": np.int64}
NAMES = {np.dtype(v): k for k, v in DTYPES.items()}


@app.post("/predict")
def predict(request: InferRequest) -> InferResponse:
    feeds = {t.name: np.array(t.data, DTYPES[t.datatype]).reshape(t.shape) for t in request.inputs}
    results = zip(session.get_outputs(), session.run(None, feeds), strict=True)
    outputs = [Tensor(name=o.name, shape=r.shape, datatype=NAMES[r.dtype], data=r.ravel().tolist()) for o, r in results]
    return InferResponse(model_name="naive", outputs=outputs)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", access_log=False, log_level="warning")
