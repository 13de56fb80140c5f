"""The lockdown as values: what a rule file demands, what a listing shows, where they differ. No IO.

Rule files are written as `nft -y list table` and `iptables-save` print rules, so that the comparison
is of whole lines and nothing has to be understood. What is not understood differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from toposeal.errors import Mismatch, PodError, Reason, printable

TABLE = "inet toposeal"
OWN_PREFIX = "TOPOSEAL_"
MARK = 0x746F706F  # conntrack mark of what Envoy and the daemon have sent on; written in the rule files
_JUMP = re.compile(r"-I (\S+) (-j TOPOSEAL_\w+)")
_POLICY = re.compile(r":(\S+) (\S+) \[\d+:\d+\]")
_RULE = re.compile(r"-A (\S+) (.+)")
_OWN = f" {OWN_PREFIX}"


class Backend(StrEnum):
    """The kernel interface and program that hold the rules; in order of preference."""

    NFT = "nft"  # nf_tables, one transaction for both families
    LEGACY = "legacy"  # x_tables, one transaction per table
    IPTABLES_NFT = "iptables-nft"  # nf_tables behind iptables, where there is no nft


@dataclass(frozen=True)
class Chain:
    """`head` is the nft type line or the iptables policy, None where a file demands none."""

    head: str | None
    rules: tuple[str, ...]


Chains = Mapping[str, Chain]


def nft_chains(text: str) -> Chains:
    """The chains of a rule file or of `nft -y list table inet toposeal`.

    What stands in the table outside any chain (flags, an owner) becomes rules of a chain "". Raises
    PodError(FIREWALL) for anything but this one table, and for blocks in it that are not chains.
    """
    chains: dict[str, Chain] = {}
    inside = name = None
    for line in _lines(text):
        if inside is None:
            inside = _table_opens(line)
        elif not inside:
            raise _unreadable(line, "the end of the text")
        elif line.startswith("chain ") and name is None:
            name = line.removeprefix("chain ").removesuffix(" {")
            chains[name] = Chain(None, ())
        elif line == "}":
            inside, name = (inside, None) if name is not None else (False, None)
        else:
            chains[name or ""] = _with_line(chains.get(name or ""), line)
    if inside is not False:
        raise _unreadable("the end of the text", "a closed table")
    return chains


def save_chains(text: str) -> Chains:
    """The chains of a rule file or of `iptables-save`, named "<table> <chain>".

    A file's `-I` lines are the first rules of their chains. Raises PodError(FIREWALL) for any other line.
    """
    chains: dict[str, Chain] = {}
    table = ""
    for line in _lines(text):
        if line.startswith("*"):
            table = line[1:]
        elif match := _POLICY.fullmatch(line):
            chains[f"{table} {match[1]}"] = Chain(match[2], ())
        elif match := _JUMP.fullmatch(line) or _RULE.fullmatch(line):
            name = f"{table} {match[1]}"
            known = chains.get(name, Chain(None, ()))
            chains[name] = Chain(known.head, (*known.rules, match[2]))
        elif line != "COMMIT":
            raise _unreadable(line, "a line of iptables-save")
    return chains


def differences(demanded: Chains, live: Chains) -> tuple[Mismatch, ...]:
    """Everything in which `live` is not what is demanded; empty means equal.

    Our own chains are equal whole, and our nft table has no others. Of a built-in chain of iptables,
    the policy and the first rules are ours; whatever a container engine has after them, or in chains
    of its own, is never reached or does not matter.
    """
    found = [
        mismatch
        for name, chain in demanded.items()
        for mismatch in _compare(name, chain, live.get(name), shared=_is_shared(name))
    ]
    extra = [name for name in live if name not in demanded and " " not in name]
    return (*found, *(_mismatch(name or "table", "present", "absent") for name in extra))


def without_standing_jumps(text: str, live: Chains) -> str:
    """The iptables rule file `text` without the `-I` lines whose jump already is the first rule.

    iptables has no idempotent insertion; all else in the file can be applied any number of times.
    """
    kept = []
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        match = _JUMP.fullmatch(line)
        chain = live.get(f"{table} {match[1]}") if match else None
        if not (match and chain and chain.rules[:1] == (match[2],)):
            kept.append(line)
    return "\n".join(kept) + "\n"


def replacing(text: str) -> str:
    """The nft rule file `text` with the table deleted instead of flushed, still in one transaction.

    For a table that somebody has bent out of shape (a chain on another hook), which no rule can mend:
    it protects nothing any more, so that there is nothing to lose by deleting it.
    """
    return text.replace(f"flush table {TABLE}", f"delete table {TABLE}", 1)


def _lines(text: str) -> list[str]:
    """Without blank lines, indentation and whole-line comments; nothing else can hide a rule's end."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _table_opens(line: str) -> bool | None:
    if line == f"table {TABLE} {{":
        return True
    if line in (f"table {TABLE}", f"flush table {TABLE}"):
        return None
    raise _unreadable(line, f"table {TABLE}")


def _with_line(chain: Chain | None, line: str) -> Chain:
    if chain is None:
        return Chain(None, (line,))
    if chain.head is None and line.startswith("type "):
        return Chain(line, chain.rules)
    return Chain(chain.head, (*chain.rules, line))


def _is_shared(name: str) -> bool:
    """Chains of iptables ("table CHAIN") that are not ours alone."""
    return " " in name and _OWN not in name


def _compare(name: str, wanted: Chain, live: Chain | None, shared: bool) -> list[Mismatch]:
    if live is None:
        return [_mismatch(name, "absent", "present")]
    found = []
    if wanted.head is not None and live.head != wanted.head:
        found.append(_mismatch(name, live.head, wanted.head))
    count = len(wanted.rules) if shared else max(len(wanted.rules), len(live.rules))
    for i in range(count):
        have, want = _at(live.rules, i), _at(wanted.rules, i)
        if have != want:
            found.append(_mismatch(f"{name} rule {i + 1}", have, want))
    return found


def _at(rules: tuple[str, ...], index: int) -> str:
    return rules[index] if index < len(rules) else "nothing"


def _mismatch(field: str, found: object, expected: object) -> Mismatch:
    return Mismatch(Reason.FIREWALL, printable(field), printable(found), printable(expected))


def _unreadable(found: str, expected: str) -> PodError:
    return PodError(_mismatch("rules", found, expected))
