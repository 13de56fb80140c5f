"""HTML and SVG made of parts, so that no text can be taken for markup. No IO.

Text is escaped when it becomes part of an element, all of it printable ASCII of bounded length; only what
`element` made is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from toposeal.errors import printable

_TEXT_LIMIT = 300  # characters; the longest that is our own takes 250
_EMPTY = frozenset({"meta", "path", "rect", "circle"})  # elements without an end, or with nothing in them


class Markup(str):
    """What is markup already. `element`, `joined` and `style` alone make it."""

    __slots__ = ()


def element(name: str, /, *children: str | int, **attributes: str | int) -> Markup:
    """`<name a="...">children</name>`. An attribute's underscores are dashes, a trailing one is left out."""
    names = {key: key.rstrip("_").replace("_", "-") for key in attributes}
    given = "".join(f' {names[key]}="{_safe(value)}"' for key, value in attributes.items())
    if name in _EMPTY:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[str | int], between: str = "") -> Markup:
    return Markup(between.join(part if isinstance(part, Markup) else _safe(part) for part in parts))


def style(text: str) -> Markup:
    """A style sheet of our own, as it is: nothing from outside is ever in it."""
    return Markup(f"<style>{text}</style>")


def _safe(value: str | int) -> str:
    return escape(printable(value, _TEXT_LIMIT))
