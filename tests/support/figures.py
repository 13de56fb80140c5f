"""Draws docs/figures from the figures that are kept there. `make figures` measures them first."""

from __future__ import annotations

import json
from pathlib import Path

from toposeal_lab.plot import curves_svg

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"


def main() -> None:
    measured = json.loads((FIGURES / "rounds.json").read_text())
    (FIGURES / "rounds.svg").write_text(curves_svg(measured))


if __name__ == "__main__":
    main()
