"""What headers say of bodies."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
JSON_BYTES: Final = "inference-header-content-length"
"""How many bytes of a body are JSON; those of tensors follow."""
