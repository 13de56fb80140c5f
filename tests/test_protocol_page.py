"""PROTOCOL.md says what the code does: tables, diagram, limits and the worked example are compared.

`python tests/test_protocol_page.py` writes the generated parts anew; a reviewer reads the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

from support import vector

from toposeal import limits
from toposeal.evidence.binding import seal_binding
from toposeal.membership.machine import MESSAGES, TRANSITIONS
from toposeal.membership.signing import Tag

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "proto" / "PROTOCOL.md"
PHASES = [phase.__name__.lower() for phase in TRANSITIONS if phase.__name__ != "Fenced"]
LIMITS = {
    "MAX_ENVELOPE_SIZE": "bytes of one envelope",
    "MAX_QUOTE_SIZE": "bytes of a quote",
    "MAX_TDX_QUOTE_SIZE": "bytes of a TDX quote with its padding",
    "MAX_CERTIFICATE_SIZE": "bytes of a CA certificate",
    "MAX_TOPOLOGY_SIZE": "bytes of a topology's payload",
    "MAX_REPLICAS": "members of a manifest",
    "MAX_ADDRESSES": "addresses of a HELLO",
    "MAX_CANDIDATES_PER_ROLE": "known instances of a role above its maximum",
    "MAX_EPOCH_STEP": "epochs that a member follows at once, above its own and what certificates prove",
    "MAX_TRAIL": "certificates back to one that is proven active",
    "CERTIFICATE_PART": "bytes of records in one part of a certificate, or one record",
    "MAX_PARTS": "parts of certificates to one peer in ping_ms",
    "MAX_VERSION_STEP": "topology versions at once",
    "MAX_TOPOLOGY_PUSH": "bytes of a topology's envelope from outside",
    "TOPOLOGY_PUSHES_PER_SECOND": "of them a second at one member",
    "MAX_REQUESTS_PER_SECOND": "envelopes a second from one source address",
    "MAX_PEER_CONNECTIONS": "calls at once",
    "PEER_TIMEOUT": "ms for a TLS handshake and for a delivery",
    "ASKED_PER_SECOND": "statuses and pushes a second at the peer port, of one source address",
    "ASKED_PER_SECOND_IN_ALL": "of them of all",
    "ASKED_AT_ONCE": "of them at once, of one source address",
    "ASKED_AT_ONCE_IN_ALL": "at once of all",
    "MAX_STATUS_SIZE": "bytes of a status",
    "MAX_DOCUMENT_SIZE": "bytes of an attestation document",
    "MAX_HISTORY_SIZE": "bytes of manifests in a history",
    "LIVE_QUOTES_PER_SECOND": "LIVE quotes a second of one member",
}


def diagram() -> str:
    lines = ["stateDiagram-v2", "    [*] --> boot"]
    for before, after in TRANSITIONS.items():
        lines += [f"    {before.__name__.lower()} --> {phase.__name__.lower()}" for phase in after]
    return "\n".join([*lines, "    fenced --> [*]"])


def message_table() -> str:
    rows = ["| | " + " | ".join(PHASES) + " |", "|---" * (len(PHASES) + 1) + "|"]
    for kind, phases in MESSAGES.items():
        known = {phase.__name__.lower() for phase in phases}
        rows.append(f"| {kind} | " + " | ".join("x" if name in known else "" for name in PHASES) + " |")
    return "\n".join(rows)


def limits_table() -> str:
    rows = [f"| {getattr(limits, name)} | {what} | `{name}` |" for name, what in LIMITS.items()]
    return "\n".join(["| at most | of | constant |", "|---|---|---|", *rows])


def example() -> str:
    one, two, three, four, five = (bytes([n]) * 48 for n in range(1, 6))
    return seal_binding(one, two, 7, three, "db", four, five).report_data().hex()


def test_the_diagram_is_the_table_of_transitions() -> None:
    assert f"```mermaid\n{diagram()}\n```" in PAGE.read_text()


def test_the_message_table_is_the_machines() -> None:
    assert f"\n{message_table()}\n" in PAGE.read_text()


def test_the_limits_are_those_of_the_code() -> None:
    assert f"\n{limits_table()}\n" in PAGE.read_text()


def test_the_worked_example_is_right() -> None:
    digits = example()
    assert f"report_data = {digits[:64]}\n              {digits[64:]}\n" in PAGE.read_text()


def test_the_worked_vector_is_the_one_of_the_second_implementation() -> None:
    assert f"```\n{vector.page()}\n```\n" in PAGE.read_text()


def test_every_signature_tag_is_listed() -> None:
    text = PAGE.read_text()
    assert [tag.value for tag in Tag if f"`{tag.value}`" not in text] == []


def test_every_section_that_is_cited_exists() -> None:
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)", PAGE.read_text(), re.MULTILINE))
    cited = set()
    for path in [*ROOT.glob("sidecar/**/*.py"), *ROOT.glob("proto/*.proto")]:
        for place in re.findall(r"PROTOCOL\.md ((?:section )?[\d., to and]+\d)", path.read_text()):
            cited |= set(re.findall(r"\d+(?:\.\d+)?", place))
    assert cited - headings == set()
    assert cited


def _write() -> None:
    digits = example()
    parts = {
        "STATE_DIAGRAM": diagram(),
        "MESSAGE_TABLE": message_table(),
        "WORKED_VECTOR": vector.page(),
        "LIMITS_TABLE": limits_table(),
        "REPORT_DATA_EXAMPLE": f"{digits[:64]}\n              {digits[64:]}",
    }
    text = PAGE.read_text()
    for mark, part in parts.items():
        text = text.replace(mark, part)
    text = re.sub(
        r"```mermaid\nstateDiagram.*?```", lambda _: f"```mermaid\n{diagram()}\n```", text, flags=re.S
    )
    text = re.sub(r"\| \| boot .*?\n\n", lambda _: message_table() + "\n\n", text, flags=re.S)
    text = re.sub(r"```\nowner root .*?```", lambda _: f"```\n{vector.page()}\n```", text, flags=re.S)
    text = re.sub(r"\| at most \|.*?\n\n", lambda _: limits_table() + "\n\n", text, flags=re.S)
    PAGE.write_text(text)


if __name__ == "__main__":
    _write()
