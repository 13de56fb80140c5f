"""The curves of `bench rounds` and `bench crowd` as drawings: small panels, members along each. No IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT, _GAP = 230, 170, 40  # of one panel, and beside it
_LEFT, _TOP, _BOTTOM = 50, 50, 40
_STYLE = (
    "text{font:12px sans-serif;fill:#555}.title{font-weight:bold;fill:#333}"
    ".line{fill:none;stroke:#2b6cb0;stroke-width:2}.dot{fill:#2b6cb0}.grid{stroke:#ccc}"
)
PANELS = {
    "seal_seconds": "seconds until all serve",
    "quote_seconds": "seconds of quotes, a member",
    "cpu_seconds": "CPU seconds, a member",
    "kib": "KiB sent, a member",
}
CROWD_PANELS = {
    "quote_seconds": "seconds of quotes, one member",
    "verification_seconds": "CPU seconds of verification, one member",
    "message_seconds": "CPU seconds of messages, one member",
    "kib": "KiB sent, one member",
}


def curves_svg(measured: Mapping[str, Any]) -> str:
    """An SVG document of what `bench rounds --json` has printed: one panel for each of PANELS, from zero."""
    machine = measured["machine"]
    said = f"members of one mesh on {machine['cores']} cores ({machine['cpu']}), quotes simulated"
    return _drawing(PANELS, measured["curves"], said)


def crowd_svg(measured: Mapping[str, Any]) -> str:
    """The same of what `bench crowd --json` has printed."""
    cpu = measured["machine"]["cpu"]
    said = f"members of one mesh, of which one is measured ({cpu}) and all others are scripted"
    return _drawing(CROWD_PANELS, measured["crowd"], said)


def _drawing(panels: Mapping[str, str], measured: Sequence[Mapping[str, Any]], said: str) -> str:
    curves = [{**curve, "kib": curve["bytes"] / 1024} for curve in measured]
    width = len(panels) * (_LEFT + _WIDTH + _GAP)
    height = _TOP + _HEIGHT + _BOTTOM
    parts = [part for place, name in enumerate(panels) for part in _panel(place, panels[name], name, curves)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>What sealing costs by the number of {said}</title>",
            f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>',
            *parts,
            f'<text x="{_LEFT}" y="{height - 6}">Along: {said}</text>',
            "</svg>\n",
        )
    )


def _panel(place: int, title: str, name: str, curves: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    left = place * (_LEFT + _WIDTH + _GAP) + _LEFT
    most_n, most = max(c["n"] for c in curves), _round_up(max(c[name] for c in curves))
    points = [
        (left + _WIDTH * c["n"] / most_n, _TOP + _HEIGHT * (1 - c[name] / most), c["n"]) for c in curves
    ]
    yield f'<text class="title" x="{left}" y="{_TOP - 20}">{title}</text>'
    for share in (0, 0.5, 1):
        y = _TOP + _HEIGHT * (1 - share)
        yield f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + _WIDTH}" y2="{y:.1f}"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{most * share:g}</text>'
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    yield f'<polyline class="line" points="{line}"/>'
    for x, y, n in points:
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        yield f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{n}</text>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    step = 0.001
    while True:
        for factor in (1, 2, 5):
            if value <= factor * step:
                return round(factor * step, 3)
        step *= 10
