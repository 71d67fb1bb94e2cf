"""The only re-export of tritonclient's protobuf messages (Open Inference Protocol gRPC and Triton's model config).

Own generated copies of the same files clash in one process (protobuf's descriptor pool), so the client
library is a base dependency and everybody imports the messages from here.
"""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2, service_pb2

__all__ = ["model_config_pb2", "service_pb2"]
