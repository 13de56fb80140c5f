"""Dashboard and alerts ask for what the daemon writes, and the page explains each alert."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.monitoring import ROOT, alerts, asked, dashboard, panels

from toposeal.dataplane.metrics import Counted, Figures, exposition
from toposeal.gate.machine import TRANSITIONS, Effect, State

PAGE = (ROOT / "docs" / "monitoring.md").read_text()
# What a scrape itself adds: a figure of its own, and two labels to each.
TARGET = frozenset({"job", "instance"})
SYNTHETIC = {"up": TARGET}
# PromQL, as far as it is used here.
_WORDS = frozenset({"sum", "count", "min", "max", "rate", "increase", "by", "offset"})
_SELECTOR = re.compile(r"(?<![\w$])([a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-z_]+)(=~|=)"([^"]*)"')


def written() -> dict[str, dict[str, set[str]]]:
    """Name to label to values, read from the text of a sidecar that is open."""
    found: dict[str, dict[str, set[str]]] = {}
    text = exposition(Figures(State.OPEN, 3, 4, 61_000, Counted({}, {}))).decode()
    for line in text.splitlines():
        match = re.fullmatch(r'([a-z_]+)(?:\{([a-z_]+)="([a-z_]+)"\})? \d+', line)
        if match is not None:
            labels = found.setdefault(match[1], {})
            if match[2]:
                labels.setdefault(match[2], set()).add(match[3])
    return found


WRITTEN = written()


def selectors(query: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Name and (label, pattern) of each figure that `query` selects. Raises ValueError for an unknown one."""
    plain = re.sub(r"\b(?:by) \([a-z, ]+\)|\[[^]]+\]|offset \w+", "", query)
    for name, matchers in _SELECTOR.findall(plain):
        if name in _WORDS:
            continue
        if name not in WRITTEN and name not in SYNTHETIC:
            raise ValueError(f"no figure is called {name}")
        pairs = _MATCHER.findall(matchers)
        if matchers and ", ".join(f'{label}{how}"{value}"' for label, how, value in pairs) != matchers:
            raise ValueError(f"cannot read {matchers}")
        yield name, [(label, value) for label, _, value in pairs]


def check(query: str) -> None:
    """Raises ValueError for a name, label or value that no scrape of a sidecar has."""
    known = set(TARGET)
    for name, matchers in selectors(query):
        labels = WRITTEN.get(name, {})
        known |= set(labels)
        for label, pattern in matchers:
            if label in labels:
                unknown = set(pattern.split("|")) - labels[label]
                if unknown:
                    raise ValueError(f"{name} has no {label} {sorted(unknown)}")
            elif label not in TARGET:
                raise ValueError(f"{name} has no label {label}")
    for group in re.findall(r"\bby \(([a-z, ]+)\)", query):
        if set(group.split(", ")) - known:
            raise ValueError(f"no such label in {group}")


@pytest.mark.parametrize(("place", "query"), list(asked()))
def test_every_query_asks_for_what_is_written(place: str, query: str) -> None:
    check(query)
    assert list(selectors(query)), f"{place} asks for nothing"


@pytest.mark.parametrize(
    "query",
    [
        "toposeal_suspended == 1",
        'toposeal_refusals_total{reason="untrusted"}',
        'toposeal_refusals_total{kind=~"expired|untrustd"}',
        "sum by (role) (toposeal_epoch)",
        'sum by (way) (rate(toposeal_sent_bytes_total{to="member"}[5m]))',
    ],
)
def test_an_invented_name_label_or_value_would_be_found(query: str) -> None:
    with pytest.raises(ValueError, match=r"^no|has no"):
        check(query)


def test_every_figure_is_drawn() -> None:
    drawn = {
        name for panel in panels() for target in panel["targets"] for name, _ in selectors(target["expr"])
    }
    assert drawn == {*WRITTEN, *SYNTHETIC}


def test_no_query_waits_for_a_state_that_nobody_can_read() -> None:
    """The port is there until Envoy is given the closed configuration, or ended."""
    closing = {Effect.CLOSE, Effect.WRITE_CLOSED, Effect.KILL_ENVOY}
    readable = {State.OPEN}
    for _ in State:
        readable |= {
            after
            for state in readable
            for after, effects in TRANSITIONS[state].values()
            if not closing & set(effects)
        }
    assert State.CUTTING in readable and not readable & {State.SUSPENDED, State.FENCED, State.CLOSED}
    for place, query in asked():
        for _, matchers in selectors(query):
            states = {state for label, value in matchers if label == "state" for state in value.split("|")}
            assert states <= readable, place


def test_counters_are_asked_for_their_growth() -> None:
    """A counter begins anew with each Envoy: its height says nothing."""
    for place, query in asked():
        for name in re.findall(r"toposeal_[a-z_]+_total", query):
            assert re.search(rf"(?:rate|increase)\({name}(?:\{{[^}}]*\}})?\[", query), f"{place}: {name}"


def test_labels_of_a_legend_or_a_message_are_those_of_the_answer() -> None:
    kept = {rule["alert"]: _answered(rule["expr"]) for rule in alerts()}
    for rule in alerts():
        told = re.findall(r"\$labels\.([a-z]+)", rule["annotations"]["summary"])
        assert told and set(told) <= kept[rule["alert"]], rule["alert"]
    for panel in panels():
        for target in panel["targets"]:
            names = set(re.findall(r"\{\{([a-z]+)\}\}", target["legendFormat"]))
            assert names <= _answered(target["expr"]), panel["title"]


def _answered(query: str) -> set[str]:
    """Labels that the answer has: those that are aggregated by, else all of the figure."""
    groups = re.findall(r"\bby \(([a-z, ]+)\)", query)
    if groups:
        return set(groups[0].split(", "))
    if re.match(r"(?:sum|count|min|max)\(", query):
        return set()
    return set(TARGET) | {label for name, _ in selectors(query) for label in WRITTEN.get(name, {})}


def test_alerts_are_well_formed_and_named_once() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for rule in alerts():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
        assert re.fullmatch(r"[1-9][0-9]*m", rule.get("for", "1m"))
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_page_explains_every_alert_and_no_other() -> None:
    section = PAGE.split("## The alerts\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?\.) \| (.+?[.?]) \|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == [rule["alert"] for rule in alerts()]


def test_panels_fill_the_board_without_overlapping() -> None:
    """24 columns, as Grafana has them."""
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        own = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24 and not own & taken, panel["title"]
        taken |= own


def test_every_source_is_the_one_that_is_chosen() -> None:
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    text = (ROOT / "docs" / "examples" / "prometheus" / "dashboard.json").read_text()
    assert set(re.findall(r"\$\{?([a-z_]+)\}?", text)) == variables | {"__rate_interval"}
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())
