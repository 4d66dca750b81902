"""JSON that is the same for the same content, for hashes and keys."""

from __future__ import annotations

import json
import math
from typing import Any

from melody.errors import MelodyError


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same content; raises ``MelodyError`` for what is not JSON.

    >>> canonical({"b": 1, "a": [0.5, "x"]})
    b'{"a":[0.5,"x"],"b":1}'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise MelodyError(f"not a JSON value: {error}") from None
    return text.encode()


def finite(value: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return value if math.isfinite(value) else None
