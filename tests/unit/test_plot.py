"""The drawing of the curves: what it shows is what was measured, and the kept one is current."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from toposeal_lab.plot import CROWD_PANELS, PANELS, crowd_svg, curves_svg

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"
MEASURED = {
    "machine": {"cpu": "a CPU", "cores": 2},
    "curves": [
        {"n": 3, "seal_seconds": 0.1, "quote_seconds": 0.03, "cpu_seconds": 1.0, "bytes": 10_240},
        {"n": 10, "seal_seconds": 0.4, "quote_seconds": 0.03, "cpu_seconds": 2.0, "bytes": 102_400},
    ],
}
_SVG = "{http://www.w3.org/2000/svg}"


def test_every_value_is_a_point_at_its_height() -> None:
    drawn = ElementTree.fromstring(curves_svg(MEASURED))
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in drawn.iter(f"{_SVG}circle")]
    assert len(dots) == len(PANELS) * 2
    heights = [round(220 - y, 1) for _, y in dots]  # above the axis, of 170
    assert heights == [34.0, 136.0, 102.0, 102.0, 85.0, 170.0, 17.0, 170.0]
    texts = [text.text for text in drawn.iter(f"{_SVG}text")]
    assert set(PANELS.values()) <= set(texts) and {"3", "10", "0"} <= set(texts)


def test_the_kept_drawing_is_of_the_kept_figures() -> None:
    """`make figures` measures and draws anew."""
    measured = json.loads((FIGURES / "rounds.json").read_text())
    assert (FIGURES / "rounds.svg").read_text() == curves_svg(measured)
    assert [curve["n"] for curve in measured["curves"]] == sorted({c["n"] for c in measured["curves"]})


def test_quotes_verification_and_messages_are_drawn_apart() -> None:
    curve = {"quote_seconds": 0.1, "verification_seconds": 5.0, "message_seconds": 2.5, "bytes": 10_240}
    measured = {"machine": {"cpu": "a CPU"}, "crowd": [{"n": 30, **curve}]}
    drawn = ElementTree.fromstring(crowd_svg(measured))
    heights = [round(220 - float(c.attrib["cy"]), 1) for c in drawn.iter(f"{_SVG}circle")]
    assert heights == [170.0, 170.0, 85.0, 170.0]
    assert set(CROWD_PANELS.values()) <= {text.text for text in drawn.iter(f"{_SVG}text")}


def test_the_kept_drawing_of_the_crowd_is_of_the_kept_figures() -> None:
    measured = json.loads((FIGURES / "crowd.json").read_text())
    assert (FIGURES / "crowd.svg").read_text() == crowd_svg(measured)
    assert [curve["n"] for curve in measured["crowd"]] == [30, 100, 300, 1000]
    assert measured["whole"]["n"] == 100 and measured["whole"]["seal_seconds"] <= 2
