"""What ended something, as one mismatch: a refusal in its own words, anything else by type and place."""

from __future__ import annotations

import traceback

from toposeal.errors import Mismatch, Reason, ToposealError, printable


def cause(error: BaseException) -> Mismatch:
    """The first refusal in `error`, which may be a group; else that something of ours failed, and where.

    The text of an unknown exception is never repeated: it may hold what the log's reader must not see (F4).
    """
    errors = _leaves(error)
    refusals = [found for found in errors if isinstance(found, ToposealError)]
    if refusals:
        return refusals[0].mismatches[0]
    found = f"{type(errors[0]).__name__} {_place(errors[0])}".strip()
    return Mismatch(Reason.INTERNAL, "task", printable(found), "a task that runs")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _place(error: BaseException) -> str:
    """`pod.py:97` of the innermost frame; code is no secret."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
