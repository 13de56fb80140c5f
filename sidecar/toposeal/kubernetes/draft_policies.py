"""What NetworkPolicies say of who calls whom, and which ranges outside are reached. No IO.

Of a connection the policies of one end say yes, no, or nothing (None): nothing where they do not select its
pods, and where they admit everybody, since that names nobody. An edge is made where one end says yes and the
other does not say no.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from toposeal.errors import Reason, UsageError, printable
from toposeal.kubernetes.draft_pods import TCP, Pods, port_number
from toposeal.kubernetes.draft_ranges import Ranges
from toposeal.kubernetes.fields import Field
from toposeal.kubernetes.selectors import matches
from toposeal.limits import MAX_POLICY_PARTS

_WAYS = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}
_PEER = ("podSelector", "namespaceSelector", "ipBlock")


@dataclass
class _Said:
    """What the policies of one direction say: `isolated` are the pods that they are about."""

    isolated: set[Pods] = field(default_factory=set)
    named: set[tuple[Pods, Pods, int]] = field(default_factory=set)  # caller, callee, port
    anybody: set[tuple[Pods, Pods, int]] = field(default_factory=set)  # isolated one, callee, port

    def of(self, about: Pods, caller: Pods, callee: Pods, port: int) -> bool | None:
        if (caller, callee, port) in self.named:
            return True
        return None if about not in self.isolated or (about, callee, port) in self.anybody else False


@dataclass
class _Rule:
    """One rule of a policy, with the pods that the policy and the rule select."""

    name: str  # of the policy
    field: Field
    about: Sequence[Pods]
    peers: Sequence[Pods] | None  # None: everybody


def take_policies(policies: Sequence[Field], pods: Sequence[Pods], notes: dict[str, None]) -> None:
    """Into the roles: calls, egress, notes. Raises UsageError for a policy that is not understood whole."""
    _check_parts(policies)
    incoming, outgoing, ranges = _Said(), _Said(), Ranges()
    for spec in (policy.at("spec") for policy in policies):
        spec.only("podSelector", "policyTypes", "ingress", "egress")
        about = [one for one in pods if matches(spec.at("podSelector"), one.labels)]
        for way in _ways(spec):
            (incoming if way == "Ingress" else outgoing).isolated.update(about)
            rules, ends = _WAYS[way]
            for item in spec.at(rules).items():
                item.only("ports", ends)
                peers = _peers(item.at(ends), pods, notes)
                rule = _Rule(spec.document.name(), item, about, peers)
                _note_protocols(rule, notes)
                if way == "Ingress":
                    _admit_callers(rule, pods, incoming, notes)
                else:
                    _admit_called(rule, pods, outgoing, notes)
                    ranges.take(item, about, notes)
    _make_edges(pods, incoming, outgoing)
    ranges.put()


def _make_edges(pods: Sequence[Pods], incoming: _Said, outgoing: _Said) -> None:
    for callee in pods:
        for port in sorted(callee.serves):
            nobody_says = True
            for caller in pods:
                said = {
                    incoming.of(callee, caller, callee, port),
                    outgoing.of(caller, caller, callee, port),
                }
                nobody_says &= True not in said and incoming.of(callee, caller, callee, port) is None
                if True in said and False not in said:
                    caller.calls.add((callee.role or "", port))
            if nobody_says:
                callee.note(f"No NetworkPolicy says who calls port {port}: no edge leads there.")


def _admit_callers(rule: _Rule, pods: Sequence[Pods], said: _Said, notes: dict[str, None]) -> None:
    for callee in rule.about:
        ports = list(_ports(rule.field, callee))
        if rule.peers is None:
            said.anybody.update((callee, callee, port) for port in ports)
        else:
            said.named.update((caller, callee, port) for caller in rule.peers for port in ports)
        if not ports:
            callee.note(
                f"{rule.name} admits to no port that the role serves, in {'.'.join(rule.field.path)}."
            )
    if any("ipBlock" in peer.mapping() for peer in rule.field.at("from").items()):
        notes.setdefault(f"{rule.name} admits clients by address: outside clients come by `ingress`.")


def _admit_called(rule: _Rule, pods: Sequence[Pods], said: _Said, notes: dict[str, None]) -> None:
    for caller, callee in product(rule.about, pods if rule.peers is None else rule.peers):
        ports = _ports(rule.field, callee)
        if rule.peers is None:
            said.anybody.update((caller, callee, port) for port in ports)
        else:
            said.named.update((caller, callee, port) for port in ports)
    if rule.peers is None:
        notes.setdefault(f"{rule.name} lets its pods reach everything: `egress` has to name what they reach.")


def _ports(rule: Field, callee: Pods) -> Iterator[int]:
    """Those that the callee serves and the rule means."""
    ports = rule.at("ports").items()
    if not ports:
        yield from callee.serves
    for entry in ports:
        port, last = entry.at("port"), entry.at("endPort").number(1, 65_535)
        if (entry.at("protocol").text() or TCP) != TCP:
            continue
        if port.value is None:
            yield from callee.serves
            continue
        first = callee.named(port.value) if isinstance(port.value, str) else port_number(port)
        if first is not None:
            yield from (number for number in callee.serves if first <= number <= (last or first))


def _peers(ends: Field, pods: Sequence[Pods], notes: dict[str, None]) -> list[Pods] | None:
    """The pods of these files that are meant; None where everybody is."""
    found: list[Pods] = []
    for peer in ends.items():
        peer.only(*_PEER)
        if not peer.mapping() or ("ipBlock" in peer.mapping() and len(peer.mapping()) > 1):
            raise peer.refused("selectors, or an ipBlock alone")
        if "namespaceSelector" in peer.mapping():
            name = peer.document.name()
            notes.setdefault(
                f"{name}: what its namespaceSelector means is not in these files; no edge is made."
            )
        elif "podSelector" in peer.mapping():
            found += [one for one in pods if matches(peer.at("podSelector"), one.labels)]
    return found if ends.items() else None


def _ways(spec: Field) -> list[str]:
    """As Kubernetes fills in policyTypes: always Ingress, and Egress where it has rules."""
    types = [(item, item.text()) for item in spec.at("policyTypes").items()]
    for item, name in types:
        if name not in _WAYS:
            raise item.refused("Ingress or Egress")
    named = {name for _, name in types}
    if not named:
        named = {"Ingress", "Egress"} if spec.at("egress").items() else {"Ingress"}
    return [way for way in _WAYS if way in named]


def _note_protocols(rule: _Rule, notes: dict[str, None]) -> None:
    for entry in rule.field.at("ports").items():
        entry.only("port", "protocol", "endPort")
        protocol = entry.at("protocol").text() or TCP
        if protocol != TCP:
            notes.setdefault(f"{rule.name}: {printable(protocol)} is not carried.")


def _check_parts(policies: Sequence[Field]) -> None:
    parts = 0
    for policy in policies:
        for rules, ends in _WAYS.values():
            for rule in policy.at("spec", rules).items():
                parts += 1 + len(rule.at(ends).items()) + len(rule.at("ports").items())
    if parts > MAX_POLICY_PARTS:
        expected = f"at most {MAX_POLICY_PARTS} rules, peers and ports"
        raise UsageError.of(Reason.TOO_LARGE, "NetworkPolicies", f"{parts} rules, peers and ports", expected)
