"""Where a server listens, and by what certificate."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from funnelcast.errors import FunnelcastError


@dataclass(frozen=True)
class Address:
    """Of HTTP, and of gRPC where it has a port."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 for any that is free."""
    grpc_port: int | None = None
    """0 for any that is free; none without gRPC."""
    certificate: Path | None = None
    """With its chain; requests are encrypted then."""
    key: Path | None = None
    """Of the certificate."""
    client_ca: Path | None = None
    """Of which a client needs a certificate."""

    def listener(self) -> socket.socket:
        """A socket that listens for HTTP. Raises FunnelcastError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=2048)
        except OSError as error:
            raise FunnelcastError(
                f"cannot listen on {self.host}:{self.port} ({error.strerror}); choose another --host or --port"
            ) from None
