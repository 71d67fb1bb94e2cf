"""A bare grpc.aio server on uvloop: parses ModelInferRequest, answers a fixed ModelInferResponse. No model, no gateway.

What any Python gRPC server built on these messages pays at least. Usage: grpc_echo.py PORT MODEL OUTPUT_NAME FLOATS
"""

import asyncio
import sys

import grpc
import uvloop
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Echo(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, model: str, output: str, floats: int) -> None:
        tensor = service_pb2.ModelInferResponse.InferOutputTensor(name=output, datatype="FP32", shape=[1, floats])
        self._tensor, self._model, self._raw = tensor, model, bytes(4 * floats)

    async def ModelInfer(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        return service_pb2.ModelInferResponse(
            model_name=self._model, id=request.id, outputs=[self._tensor], raw_output_contents=[self._raw]
        )


async def main(port: str, model: str, output: str, floats: str) -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Echo(model, output, int(floats)), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:5]))
