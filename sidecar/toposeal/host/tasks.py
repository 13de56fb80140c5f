"""Tasks that nobody awaits: what ends one reaches the event loop's exception handler at once (S9)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def watched(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start `work` on the running loop. asyncio alone would tell of its failure when it is collected."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        task.get_loop().call_exception_handler({"message": "a task has died", "exception": error})
