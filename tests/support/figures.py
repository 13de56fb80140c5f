"""Draws docs/figures from the figures that are kept there. `make figures` measures them first."""

from __future__ import annotations

import json
from pathlib import Path

from toposeal_lab.plot import crowd_svg, curves_svg

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"


def main() -> None:
    for name, draw in (("rounds", curves_svg), ("crowd", crowd_svg)):
        measured = json.loads((FIGURES / f"{name}.json").read_text())
        (FIGURES / f"{name}.svg").write_text(draw(measured))


if __name__ == "__main__":
    main()
