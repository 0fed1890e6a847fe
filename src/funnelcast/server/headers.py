"""What headers say of bodies, and how the calls of gRPC are named."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
JSON_BYTES: Final = "inference-header-content-length"
"""How many bytes of a body are JSON; those of tensors follow."""
GRPC: Final = "/inference.GRPCInferenceService/"
"""What stands before the name of a call, in its path."""
REQUEST_ID: Final = "x-request-id"
"""A client's name of a request, for the log of rows."""
