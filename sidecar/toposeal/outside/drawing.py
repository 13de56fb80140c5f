"""The graph of a verified mesh as SVG: nodes link to the roles' sections, edges have their ports. No IO."""

from __future__ import annotations

from collections.abc import Mapping

from toposeal.limits import MAX_PAGE_LIST
from toposeal.outside.graph import OUTSIDE, Edge, Graph
from toposeal.outside.markup import Markup, element, joined

_WIDTH, _HEIGHT = 170, 64
_ACROSS, _DOWN = 90, 56  # between two nodes
_MARGIN = 52  # room for an edge that leads over a node or below it
_FITS = 22  # characters of a line in a node
_LABEL = 2  # ports beside an edge: as many as fit between two nodes
_BEND = 40  # of an edge that does not lead to the right
Places = Mapping[str, tuple[int, int]]


def draw(graph: Graph, said: Mapping[str, str]) -> Markup:
    """`said` is the second line of each role's node."""
    places = {
        name: (_MARGIN + column * (_WIDTH + _ACROSS), _MARGIN + row * (_HEIGHT + _DOWN))
        for column, names in enumerate(graph.columns)
        for row, name in enumerate(names)
    }
    width = max(x for x, _ in places.values()) + _WIDTH + _MARGIN
    height = max(y for _, y in places.values()) + _HEIGHT + _MARGIN
    return element(
        "svg",
        element("title", "The topology that the owner signed", id="graph-title"),
        element("desc", _in_words(graph), id="graph-desc"),
        element("defs", _arrow()),
        joined(_edge(edge, places) for edge in graph.edges),
        joined(_node(name, *place, said) for name, place in places.items()),
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="group",
        aria_labelledby="graph-title graph-desc",
    )


def _in_words(graph: Graph) -> str:
    roles = sum(len(names) for names in graph.columns)
    return f"{roles} nodes and {len(graph.edges)} edges with their ports; the table below says the same."


def _arrow() -> Markup:
    head = element("path", d="M0 0L8 4L0 8z")
    return element("marker", head, id="arrow", orient="auto", markerWidth=8, markerHeight=8, refX=8, refY=4)


def _node(name: str, x: int, y: int, said: Mapping[str, str]) -> Markup:
    if name == OUTSIDE:
        box = element("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=32, class_="outside")
        return element("g", box, _line("outside", x, y, 30), _line("any client", x, y, 48, "small"))
    box = element("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=6)
    lines = (_line(name, x, y, 28, "name"), _line(said[name], x, y, 48, "small"))
    return element("a", box, *lines, href=f"#role-{name}", aria_label=f"role {name}: {said[name]}")


def _line(text: str, x: int, y: int, down: int, kind: str = "name") -> Markup:
    """In the middle of the node; what is too long is pressed together."""
    fit: dict[str, str | int] = (
        {"textLength": _WIDTH - 16, "lengthAdjust": "spacingAndGlyphs"} if len(text) > _FITS else {}
    )
    return element("text", text, x=x + _WIDTH // 2, y=y + down, class_=kind, **fit)


def _edge(edge: Edge, places: Places) -> Markup:
    points = _curve(places[edge.caller], places[edge.called])
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = points
    # The middle of a cubic curve.
    x, y = (x1 + 3 * x2 + 3 * x3 + x4) // 8, (y1 + 3 * y2 + 3 * y3 + y4) // 8
    line = element("path", d=f"M{x1} {y1}C{x2} {y2} {x3} {y3} {x4} {y4}", class_="edge")
    label = element("text", _ports(edge, _LABEL), x=x, y=y - 6, class_="port")
    caller = edge.caller or "outside"
    what = element("title", f"{caller} may call {edge.called} at {_ports(edge, MAX_PAGE_LIST)}")
    return element("g", what, line, label)


def _ports(edge: Edge, most: int) -> str:
    shown = ", ".join(str(port) for port in edge.ports[:most])
    return shown if len(edge.ports) <= most else f"{shown}, ..."


def _curve(caller: tuple[int, int], called: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Start, two points that it bends to, end: to the right from side to side, within a column by the right
    side, to itself over its head, back to the left below."""
    (x1, y1), (x2, y2) = caller, called
    side, middle = _HEIGHT // 2, _WIDTH // 2
    if x2 > x1:
        start, end, half = (x1 + _WIDTH, y1 + side), (x2, y2 + side), (x2 - x1 - _WIDTH) // 2
        return start, (start[0] + half, start[1]), (end[0] - half, end[1]), end
    if caller == called:
        start, end = (x1 + middle - _BEND, y1), (x1 + middle + _BEND, y1)
        return start, (start[0], y1 - _BEND), (end[0], y1 - _BEND), end
    if x1 == x2:
        start, end, right = (x1 + _WIDTH, y1 + side), (x2 + _WIDTH, y2 + side), x1 + _WIDTH + _BEND
        return start, (right, start[1]), (right, end[1]), end
    start, end = (x1 + middle, y1 + _HEIGHT), (x2 + middle, y2 + _HEIGHT)
    below = max(start[1], end[1]) + _BEND
    return start, (start[0], below), (end[0], below), end
