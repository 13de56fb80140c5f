"""One line of Envoy's access log: a JSON object of exactly the fields that we asked for. No IO."""

from __future__ import annotations

import json
from collections.abc import Collection


def fields_of(line: bytes, names: Collection[str]) -> dict[str, object] | None:
    """The object whose names are exactly `names`; None for anything else. Never raises."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.keys() == set(names) else None
