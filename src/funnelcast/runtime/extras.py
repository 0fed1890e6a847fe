"""Libraries that only an extra installs."""

from __future__ import annotations

import importlib
from typing import Any

from funnelcast.errors import FunnelcastError


def require_extra(module: str, extra: str, what: str) -> Any:
    """The module of an optional library. Raises FunnelcastError, which says how to install it, where it is missing.

    `extra`: that of the package which installs it; `what`: what needs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FunnelcastError(
            f"{what} needs a library that cannot be imported ({error}); install it with: "
            f'python -m pip install "funnelcast[{extra}]"'
        ) from None
