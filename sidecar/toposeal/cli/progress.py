"""One line on a terminal that says what is being done; it is written over, and gone at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from toposeal.errors import printable

Progress = Callable[[str], None]
_USUAL_COLUMNS = 80  # of a terminal that does not know its size


@contextmanager
def progress_line(stream: TextIO) -> Iterator[Progress]:
    """Shows what it is called with, cut to the terminal's width; nothing where `stream` is none.

    No escape sequence is used, so any terminal will do.
    """
    if not stream.isatty():
        yield _silent
        return
    room = (os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS) - 1
    shown = 0

    def show(doing: str) -> None:
        nonlocal shown
        text = printable(doing, room)[:room]
        print(f"\r{text.ljust(shown)}", end="", file=stream, flush=True)
        shown = len(text)

    try:
        yield show
    finally:
        print(f"\r{' ' * shown}\r", end="", file=stream, flush=True)


def _silent(doing: str) -> None:
    """For logs and programs, which want the verdict alone."""
