"""What several commands of the lab demand of an argument."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A number of things to do. Raises ArgumentTypeError below 1, ValueError for what is no number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number
