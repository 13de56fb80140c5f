"""The catalogue of attacks and faults: its ids, and which tests reproduce each (docs/catalogue-coverage.md).

A test says what it reproduces in its name: `test_E3_...`, or `test_E3_P8_...` for two cases at once. Numbered
faults of the platform come last: `test_fault_12_...`, `test_E15_fault_11_12_...`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "catalogue-coverage.md"
_NAME = re.compile(r"test_((?:[A-Z][0-9]+_)*)(?:fault_((?:[0-9]+_)+))?")

AREAS = {
    "E": "Evidence",
    "T": "Topology file",
    "P": "Peer protocol",
    "M": "Epochs and membership",
    "K": "PKI",
    "D": "Envoy",
    "I": "Firewall and bypass",
    "N": "DNS",
    "V": "Outside verifier",
    "W": "Storage keys",
    "F": "Files and processes",
    "C": "Command line",
    "R": "Resource exhaustion",
    "O": "Clock and entropy",
    "S": "Invariants under faults: safety",
    "L": "Invariants under faults: liveness",
    "#": "Faults of the platform",
}
CASES = {
    "E1": "a SEAL quote of an earlier boot is replayed",
    "E2": "a SEAL quote is replayed in the next epoch",
    "E3": "a quote of one purpose is presented for another",
    "E4": "report_data is empty, short, long, zero or padded",
    "E5": "a genuine TEE with another config digest",
    "E6": "a message claims a role that the measured value does not name",
    "E7": "debug, migratable, service TD, other privilege levels",
    "E8": "one TCB component below the floor, or a status that is not admitted",
    "E9": "old but valid collateral",
    "E10": "a chain to another root, a foreign or revoked certificate",
    "E11": "a genuine machine that the topology does not list",
    "E12": "a platform family that is refused by default",
    "E13": "every single-bit flip of a quote",
    "E14": "confused types, wrong lengths, trailing bytes",
    "E15": "another process uses the same quote entry",
    "E16": "the application asks for quotes itself",
    "E17": "a production build is talked into simulated roots",
    "E18": "evidence of another GPU",
    "T1": "duplicate keys",
    "T2": "roles that evidence cannot tell apart",
    "T3": "unsigned, re-serialised, foreign, or too few signatures",
    "T4": "an older version, validly signed",
    "T5": "two contents under one version",
    "T6": "numbers that are not plain integers in range",
    "T7": "role names outside the charset",
    "T8": "YAML and JSON bombs, impossible edges and bounds",
    "T9": "unknown fields",
    "T10": "the file is swapped, a link, a pipe, or grows",
    "T11": "the environment tries to configure",
    "P1": "two peers' CA certificates are swapped",
    "P2": "two HELLOs of one member are shown to different peers",
    "P3": "a peer's CA is registered as one's own",
    "P4": "messages truncated, reordered, duplicated, interleaved",
    "P5": "addresses that must not be dialled",
    "P6": "the protocol version is stripped or lowered",
    "P7": "own messages are reflected",
    "P8": "the CA of the message is not the CA of the transcript",
    "P9": "peers that stall",
    "P10": "another mesh of the same owner, or the same name of another owner",
    "P11": "another encoding of the same message",
    "P12": "a thousand dead boots with valid evidence",
    "M1": "a member is killed after its SEAL is out",
    "M2": "partitions with restarts on both sides",
    "M3": "a second instance of a role that allows one",
    "M4": "a complete second mesh",
    "M5": "an evicted member keeps running",
    "M6": "a frozen member resumes",
    "M7": "an old certificate is given to a newcomer",
    "M8": "a new topology removes a role",
    "M9": "members with different topology versions",
    "M10": "a storm of joins and leaves",
    "M11": "a member cannot attest again",
    "K1": "a member's CA mints another role's name",
    "K2": "leaves with several, odd or foreign names",
    "K3": "CA certificates outside the profile",
    "K4": "an intermediate under a member's CA",
    "K5": "public X.509 suites",
    "K6": "private keys outside the daemon's memory and Envoy's files",
    "K7": "one key or nonce twice",
    "K8": "keys after a change of epoch",
    "D1": "no certificate, an old one, TLS 1.2, early data",
    "D2": "session resumption",
    "D3": "addresses of two attested roles are swapped",
    "D4": "an edge that is not declared",
    "D5": "the application reaches Envoy's admin or sockets",
    "D6": "a generated configuration with an open trap",
    "D7": "Envoy is killed, refuses its configuration, or is too old",
    "D8": "a change of epoch under load",
    "D9": "forged original-destination information",
    "I1": "a marker sent over every protocol before and after the seal",
    "I2": "the sidecar starts late, never, or dies",
    "I3": "the application takes an exempt identity",
    "I4": "interfaces, routes and addresses change",
    "I5": "a missing or failing firewall tool",
    "I6": "the rules are flushed",
    "I7": "the container runtime's back doors",
    "I8": "own address, link-local, gateway",
    "I9": "connections older than the rules",
    "N1": "resolver files are manipulated",
    "N2": "spoofed answers",
    "N3": "floods and malformed queries",
    "N4": "a role without members",
    "N5": "DNS leads to another role",
    "V1": "yesterday's document",
    "V2": "the document through another TLS endpoint",
    "V3": "members dropped, doubled, reordered or mixed",
    "V4": "a LIVE quote of a member that is not active",
    "V5": "another encoding of the manifest",
    "V6": "an older topology",
    "V7": "answers that are huge, slow, or redirect",
    "V8": "a wrong local clock",
    "V9": "missing owner or policy; one exit code per cause",
    "V10": "a flood of nonces",
    "W1": "a volume of another role",
    "W2": "a replayed key release",
    "W3": "forged or mixed shares",
    "W4": "a manipulated volume header",
    "W5": "a rolled back disk",
    "W6": "another member's disk",
    "F1": "the run directory is not tmpfs",
    "F2": "umask, foreign owners, links",
    "F3": "ptrace, core dumps, swap",
    "F4": "secrets in logs or on command lines",
    "F5": "the environment of Python, the loader and libraries",
    "F6": "a full or failing file system",
    "C1": "signing with an exposed key or a faulty file",
    "C2": "terminal escapes in output",
    "C3": "outputs that exist, are links, or are closed",
    "C4": "a warning that should be a failure",
    "C5": "two outputs that disagree",
    "R1": "connection floods and protocol bombs",
    "R2": "garbage evidence at a high rate",
    "R3": "a thousand members",
    "R4": "a slow or failing quote service",
    "R5": "small limits of the process",
    "O1": "a wall clock that is wrong or jumps",
    "O2": "a clock before the topology was issued",
    "O3": "a slow monotonic clock",
    "O4": "the entropy source fails",
    "O5": "randomness from anywhere but the kernel",
    "S1": "no byte in clear, and none at all before ACTIVE",
    "S2": "no peer outside the sealed manifest, no seal without every member's evidence",
    "S3": "one commitment for an epoch, epochs only rise",
    "S4": "each end of a channel has sealed a manifest that lists the other",
    "S5": "one successor of each manifest",
    "S6": "lineages share no live member",
    "S7": "keys stay where they belong",
    "S8": "versions, epochs and floors never fall",
    "S9": "whatever cannot be explained closes the pod",
    "L1": "a complete and timely mesh becomes active",
    "L2": "a restarted pod joins without disturbing others",
    "L3": "an evicted member notices",
    "L4": "nothing grows without bound",
    "#10": "configfs-tsm: no mount, no driver, no entry",
    "#11": "configfs-tsm: a request is still in flight",
    "#12": "configfs-tsm: reads that fail, lie, or do not return",
    "#13": "SNP: the key is wiped, the host throttles, a bad certificate table",
    "#14": "collateral that is unreachable, expired, older or malformed",
    "#15": "the tmpfs is full, read-only, or without inodes",
    "#16": "Envoy does not start, refuses its configuration, crashes, or does not listen",
    "#17": "firewall rules that are absent, partial, flushed or changed",
    "#19": "the daemon or Envoy is killed for want of memory",
    "#20": "signals: storms, those that mean nothing, those that the host injects",
    "#24": "addresses change, one family is missing, packets vanish, connections are reset",
    "#26": "a GPU is gone, or its evidence is older than the epoch",
}
# Every case that the parts which exist today have to withstand.
_REQUIRED = (
    "E1 E3 E4 E6 T1 T2 T3 T4 T5 T6 T7 T8 T9 T10 T11 P1 P2 P3 P4 P7 P8 P9 P10 P11 M1 K1 K2 K3 K4 K6 K7 K8 "
    "D1 D2 D3 D4 D5 D6 D7 D9 I1 I2 I3 I4 I5 I6 I8 I9 N1 N2 N3 N4 N5 "
    "V1 V2 V3 V4 V5 V7 V9 M5 D8 F1 F2 F3 F4 O4 O5 #15 #16 #17 #19 #20 #24"
)
REQUIRED = frozenset(_REQUIRED.split())


def tests_by_case() -> dict[str, list[str]]:
    """Case id to `file::test`, sorted."""
    found: dict[str, list[str]] = {}
    for case, test in _named_tests():
        found.setdefault(case, []).append(test)
    return {case: sorted(tests) for case, tests in found.items()}


def page() -> str:
    """The coverage page, from the names of the tests alone."""
    tests = tests_by_case()
    lines = [
        "# Which attack or fault is reproduced by which test",
        "",
        "Generated from the names of the tests by `make coverage-table`; `tests/test_catalogue.py` compares.",
        f"{len(tests)} of {len(CASES)} cases have a test.",
    ]
    for letter, area in AREAS.items():
        lines += ["", f"## {area}", "", "| case | attack or fault | tests |", "|---|---|---|"]
        lines += [_row(case, tests.get(case, [])) for case in CASES if case[0] == letter]
    return "\n".join(lines) + "\n"


def _row(case: str, tests: list[str]) -> str:
    return f"| {case} | {CASES[case]} | {_cell(tests) or 'none yet'} |"


def _cell(tests: list[str]) -> str:
    """Names of tests, or their number where one file has more than three."""
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.partition("::")[0], []).append(test)
    parts = [f"`{file}`: {len(named)} tests" if len(named) > 3 else None for file, named in files.items()]
    return "<br>".join(
        part or "<br>".join(f"`{test}`" for test in named)
        for part, named in zip(parts, files.values(), strict=True)
    )


def _named_tests() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                where = f"{path.relative_to(ROOT / 'tests')}::{node.name}"
                yield from ((case, where) for case in _cases(node.name))


def _cases(name: str) -> list[str]:
    """The cases that a test's name begins with."""
    named = _NAME.match(name)
    if not named:
        return []
    cases, faults = (group.rstrip("_").split("_") if group else [] for group in named.groups())
    return [*cases, *(f"#{fault}" for fault in faults)]


if __name__ == "__main__":
    PAGE.write_text(page())
