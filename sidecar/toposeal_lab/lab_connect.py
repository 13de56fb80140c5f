"""`toposeal-lab connect`: the production command under a root certificate given in a file."""

from __future__ import annotations

from typing import Any

from toposeal.cli import connect as production
from toposeal_lab.lab_verify import under_anchors


def register(subparsers: Any) -> None:
    """The production command's own parser and handler, with one option more."""
    production.register(subparsers)
    under_anchors(subparsers.choices["connect"])
