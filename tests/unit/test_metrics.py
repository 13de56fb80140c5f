"""The figures as Prometheus reads them, and that nothing else is in them."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from toposeal.dataplane.metrics import FAMILIES, STATS, UNTOLD, Counted, Figures, exposition
from toposeal.dataplane.refusals import Kind
from toposeal.gate.machine import State

PAGE = Path(__file__).parents[2] / "docs" / "topology.md"
IN, OUT = "listener.0.0.0.0_15006.", "listener.127.0.0.1_15001."
DB, LEDGER, APP = "cluster.out|db|5432.", "cluster.egress|ledger.example.com|443.", "cluster.app|8080."
COUNTED = Counted(
    {
        f"{IN}downstream_cx_total": 7,
        f"{IN}downstream_cx_active": 2,
        f"{IN}ssl.handshake": 5,
        f"{IN}ssl.connection_error": 1,
        f"{IN}ssl.fail_verify_no_cert": 2,
        f"{IN}ssl.fail_verify_san": 4,
        f"{IN}ssl.fail_verify_error": 8,
        f"{OUT}downstream_cx_total": 9,
        f"{DB}upstream_cx_total": 3,
        f"{DB}upstream_cx_rx_bytes_total": 1000,
        f"{DB}upstream_cx_tx_bytes_total": 20,
        f"{DB}upstream_cx_connect_fail": 6,
        f"{DB}ssl.handshake": 3,
        "cluster.out|api|80.upstream_cx_total": 4,
        f"{LEDGER}upstream_cx_total": 11,
        f"{LEDGER}ssl.fail_verify_error": 1,
        f"{APP}upstream_cx_rx_bytes_total": 1 << 60,
        "cluster_manager.cds.update_rejected": 1,
        "listener_manager.lds.update_rejected": 2,
        "sds.id.update_rejected": 3,
        "sds.ingress.update_rejected": 4,
    },
    {"no_route": 12, UNTOLD: 30},
)
FIGURES = Figures(State.OPEN, 3, 5, 61_999, COUNTED)

# The grammar of the text format, version 0.0.4, as far as a name and one label go.
SAMPLE = re.compile(r'([a-z_]+)(?:\{([a-z_]+)="([a-z_]+)"\})? (0|[1-9][0-9]*)')


def read(text: bytes) -> dict[tuple[str, str], int]:
    """As Prometheus does: HELP, then TYPE, then the samples of one family, each once."""
    lines = text.decode("ascii").split("\n")
    assert lines.pop() == ""
    found: dict[tuple[str, str], int] = {}
    families: list[str] = []
    while lines:
        _, key, name, meaning = lines.pop(0).split(" ", 3)
        assert (key, bool(meaning)) == ("HELP", True)
        kind = lines.pop(0).removeprefix(f"# TYPE {name} ")
        assert kind == ("counter" if name.endswith("_total") else "gauge")
        families.append(name)
        while lines and not lines[0].startswith("#"):
            match = SAMPLE.fullmatch(lines.pop(0))
            assert match is not None and match[1] == name and (name, match[3] or "") not in found
            found[name, match[3] or ""] = int(match[4])
    assert len(set(families)) == len(families)
    return found


def test_what_is_said() -> None:
    found = read(exposition(FIGURES))
    assert {place: value for place, value in found.items() if value} == {
        ("toposeal_gate_state", "open"): 1,
        ("toposeal_epoch", ""): 3,
        ("toposeal_members", ""): 5,
        ("toposeal_quote_age_seconds", ""): 61,
        ("toposeal_refusals_total", "no_route"): 12,
        ("toposeal_refusals_total", "untold"): 30,
        ("toposeal_updates_rejected_total", "clusters"): 1,
        ("toposeal_updates_rejected_total", "listeners"): 2,
        ("toposeal_updates_rejected_total", "leaves"): 7,
        ("toposeal_connections_total", "in"): 7,
        ("toposeal_connections_total", "out"): 9,
        ("toposeal_connections", "in"): 2,
        ("toposeal_handshakes_total", "in"): 5,
        ("toposeal_handshakes_total", "out"): 3,
        ("toposeal_handshake_failures_total", "in"): 15,
        ("toposeal_handshake_failures_total", "out"): 1,
        ("toposeal_upstream_connections_total", "member"): 7,
        ("toposeal_upstream_connections_total", "outside"): 11,
        ("toposeal_upstream_failures_total", "member"): 6,
        ("toposeal_sent_bytes_total", "member"): 20,
        ("toposeal_received_bytes_total", "member"): 1000,
        ("toposeal_received_bytes_total", "application"): 1 << 60,
    }


def test_every_figure_is_there_from_the_start() -> None:
    """A counter that appears with its first event has no first event for Prometheus."""
    nothing = Figures(State.CLOSED, 0, 0, None, Counted({}, {}))
    every = {(family.name, value) for family in FAMILIES for value in family.values}
    assert set(read(exposition(nothing))) == every - {("toposeal_quote_age_seconds", "")}
    assert set(read(exposition(FIGURES))) == every
    assert {value for name, value in every if name == "toposeal_refusals_total"} == {*Kind, "untold"}
    assert {value for name, value in every if name == "toposeal_gate_state"} == set(State)


NAMES = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            f"{DB}m-104faf2853b1203a38134b0d448a811a.shop.total_match_count",
            f"{IN}ssl.certificate.id.expiration_unix_time_seconds",
            f"{IN}worker_0.downstream_cx_total",
            "listener.admin.downstream_cx_total",
            "listener.10.77.0.11_15006.downstream_cx_total",
            "cluster.attestation.upstream_cx_total",
            f"{DB}upstream_cx_total\n",
            f"x{DB}upstream_cx_total",
            "listener_manager.lds.version_text",
            "server.version",
        ]
    ),
)


@given(st.dictionaries(NAMES, st.one_of(st.integers(0, 1 << 64), st.text(max_size=9))))
def test_F4_nothing_that_is_not_in_the_table_is_said(stats: dict[str, int | str]) -> None:
    """Whatever Envoy answers: no name, address, certificate or text of it."""
    assert exposition(Figures(State.OPEN, 3, 5, 0, Counted(stats, {}))) == exposition(
        Figures(State.OPEN, 3, 5, 0, Counted({}, {}))
    )


def test_a_text_in_place_of_a_number_does_not_count() -> None:
    found = read(exposition(Figures(State.OPEN, 1, 1, 0, Counted({f"{DB}upstream_cx_total": "7"}, {}))))
    assert found["toposeal_upstream_connections_total", "member"] == 0


def test_it_is_small_whatever_is_counted() -> None:
    most = dict.fromkeys(COUNTED.stats, 1 << 64)
    kinds = dict.fromkeys((*Kind, UNTOLD), 1 << 64)
    assert len(exposition(Figures(State.ROTATING, 1 << 53, 1000, 1 << 53, Counted(most, kinds)))) <= 8 << 10


def test_envoy_is_asked_for_nothing_else() -> None:
    """One pattern asks and reads. Envoy finds it anywhere in a name, so it holds itself to both ends."""
    assert all(part.startswith("^") and part.endswith("$") for part in re.split(r"(?<=\$)\|(?=\^)", STATS))
    assert len(re.split(r"(?<=\$)\|(?=\^)", STATS)) == 3


def test_the_page_lists_every_figure() -> None:
    section = PAGE.read_text().split("## Metrics\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (toposeal_[a-z_]+)(?:\{([a-z]+)\})? \| ([^|]+) \|", section, re.MULTILINE)
    assert [(name, label, values.strip()) for name, label, values in rows] == [
        (family.name, family.label, ", ".join(family.values) if family.label else "a number")
        for family in FAMILIES
    ]
