"""What ended something, as one mismatch: a refusal in its own words, anything else by its type alone."""

from __future__ import annotations

from toposeal.errors import Mismatch, Reason, ToposealError


def cause(error: BaseException) -> Mismatch:
    """The first refusal in `error`, which may be a group; else that something of ours failed.

    The text of an unknown exception is never repeated: it may hold what the log's reader must not see (F4).
    """
    errors = list(_leaves(error))
    refusals = [found for found in errors if isinstance(found, ToposealError)]
    if refusals:
        return refusals[0].mismatches[0]
    return Mismatch(Reason.INTERNAL, "task", type(errors[0]).__name__, "a task that runs")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
