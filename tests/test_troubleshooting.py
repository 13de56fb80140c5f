"""docs/troubleshooting.md has one entry for every reason, each with cause, place and cure, and no other."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from toposeal.errors import Reason

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
_ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_USED = re.compile(r"Reason\.([A-Z0-9_]+)\b")
# Words that the code matches on or translates, and never raises.
_TABLES = {"errors.py", "exits.py", "peer_server.py", "attestation_server.py"}
ENTRIES = {code: tuple(cells) for code, *cells in _ROW.findall(PAGE)}
EXITS = {"1", "2", "3", "4", "5"}


def raised() -> set[str]:
    """Reasons that some module names otherwise than to translate them."""
    sources = [path for path in (ROOT / "sidecar" / "toposeal").rglob("*.py") if path.name not in _TABLES]
    names = {name for path in sources for name in _USED.findall(path.read_text())}
    return {Reason[name].value for name in names}


def test_every_reason_has_exactly_one_entry() -> None:
    rows = Counter(re.findall(r"^\| `([a-z0-9_]+)` \| [A-Z`]", PAGE.partition("## Parsing")[2], re.MULTILINE))
    assert rows == Counter({reason.value: 1 for reason in Reason})
    assert set(ENTRIES) == set(rows), "a row without cause, place and cure"


def test_an_entry_says_so_where_nothing_raises_the_reason() -> None:
    never = {code for code, cells in ENTRIES.items() if cells[0].startswith("Never raised")}
    assert never == {reason.value for reason in Reason} - raised()


@pytest.mark.parametrize("code", ENTRIES)
def test_an_entry_is_short_and_says_what_to_do(code: str) -> None:
    for cell in (ENTRIES[code][0], ENTRIES[code][2]):
        assert cell.endswith(".") and len(cell) <= 200, cell
        assert len(re.findall(r"[.:](?: |$)", cell)) <= 4, cell


@pytest.mark.parametrize("code", ENTRIES)
def test_an_entry_says_where_it_is_seen(code: str) -> None:
    where = ENTRIES[code][1]
    events = r"`(?:fence|suspend|alarm|refused|status|collateral_refused)`|event"
    places = rf"{events}|exit \d|evidence, \d|HTTP \d|nowhere"
    assert re.search(places, where), where
    assert set(re.findall(r"(?:exit|evidence,|or) (\d)", where)) <= EXITS


def test_links_into_pages_name_a_heading() -> None:
    for page, anchor in re.findall(r"\]\(([a-z-]+\.md)#([a-z0-9-]+)\)", PAGE):
        headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{page}#{anchor}"
