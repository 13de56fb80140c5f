"""From an application's manifests to a topology that its owner completes: refused or drafted whole. No IO.

What manifests say is taken, and nothing is guessed: what they do not say is a `Blank`. The draft's roles have
passed the checks of a signed topology; what is left to its owner are the blanks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toposeal.errors import Reason, UsageError, printable
from toposeal.kubernetes.draft_document import completed, topology_of
from toposeal.kubernetes.draft_pods import TCP, Pods, read_pods
from toposeal.kubernetes.draft_policies import take_policies
from toposeal.kubernetes.draft_services import (
    Service,
    read_service,
    take_autoscaler,
    take_ingress,
    take_service,
)
from toposeal.kubernetes.fields import Field
from toposeal.kubernetes.manifest import Document, check_written_out
from toposeal.kubernetes.object import Path
from toposeal.kubernetes.workload import ROLE, is_role_name, pod_path, value_at
from toposeal.limits import MAX_ROLES, PEER_PORT
from toposeal.names import is_name
from toposeal.topology import strict_json
from toposeal.topology.parse import TOPOLOGY, parse_topology

_READ = {
    ("Service", "v1"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
    ("Ingress", "networking.k8s.io/v1"),
    ("HorizontalPodAutoscaler", "autoscaling/v1"),
    ("HorizontalPodAutoscaler", "autoscaling/v2"),
}
_KINDS = {kind for kind, _ in _READ}


@dataclass(frozen=True)
class Draft:
    """`document` is the topology as its author writes it, with a Blank wherever manifests say nothing."""

    document: Mapping[str, Any]
    notes: Sequence[str]
    role_notes: Mapping[str, Sequence[str]]


def draft(documents: Sequence[Document], mesh: str, kind: str) -> Draft:
    """The topology `mesh`, for machines of `kind` (tdx or snp), that `documents` tell of.

    Raises UsageError (MANIFEST_REFUSED with document and field), and TopologyError for what no topology can
    say, such as a port that is the sidecar's own.
    """
    if not is_name(mesh):
        raise UsageError.of(Reason.USAGE, "--mesh", mesh, TOPOLOGY.fields["mesh"].expected)
    notes: dict[str, None] = {}
    told = _sorted(documents, notes)
    pods = [read_pods(document, path) for document, path in told.pods]
    services = [read_service(field, pods, notes) for field in told.of("Service")]
    found = [service for service in services if service is not None]
    _name_roles(pods, found)
    for service in found:
        take_service(service)
    for field in told.of("Ingress"):
        take_ingress(field, found, notes)
    for field in told.of("HorizontalPodAutoscaler"):
        take_autoscaler(field, pods, notes)
    _serve_without_service(pods, found)
    take_policies(told.of("NetworkPolicy"), pods, notes)
    if told.of("NetworkPolicy"):
        notes.setdefault(
            f"NetworkPolicies that stay have to let all members reach TCP {PEER_PORT} of one another."
        )
    document = topology_of(pods, mesh, kind)
    parse_topology(strict_json.canonical(completed(document)))
    return Draft(document, tuple(notes), {str(one.role): tuple(one.notes) for one in pods})


@dataclass(frozen=True)
class _Told:
    """The documents that say something: those with pods, with the path to these, and others."""

    pods: Sequence[tuple[Document, Path]]
    others: Sequence[Field]

    def of(self, kind: str) -> list[Field]:
        return [field for field in self.others if field.value["kind"] == kind]


def _sorted(documents: Sequence[Document], notes: dict[str, None]) -> _Told:
    pods, others = [], []
    for document in documents:
        path, kind = pod_path(document), _kind(document, notes)
        if path is not None:
            pods.append((document, path))
        elif kind is not None:
            others.append(Field(document, (), document.value))
    read = [document for document, _ in pods] + [field.document for field in others]
    for document in read:
        check_written_out(document)
    _check_namespaces(read)
    for name, count in Counter(document.name() for document in read).items():
        if count > 1:
            raise UsageError.of(Reason.MANIFEST_REFUSED, name, "twice", "each once")
    if not 0 < len(pods) <= MAX_ROLES:
        expected = f"1 to {MAX_ROLES} workloads, each a role"
        raise UsageError.of(Reason.MANIFEST_REFUSED, "manifests", f"{len(pods)} with pods", expected)
    return _Told(pods, others)


def _kind(document: Document, notes: dict[str, None]) -> str | None:
    """What is read of it beside pods; None, and a note where it may say who calls whom, for another kind."""
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return None
    kind, group = value["kind"], printable(value.get("apiVersion"))
    if kind.endswith("List") and isinstance(value.get("items"), list):
        raise document.refused(("items",), "a list of objects", "each in a document of its own")
    if (kind, group) in _READ:
        return str(kind)
    if kind in _KINDS or kind.endswith("NetworkPolicy"):
        notes.setdefault(f"{document.name()} of {group} is not read.")
    return None


def _check_namespaces(read: Sequence[Document]) -> None:
    """Those that name none are where the others are."""
    named = [value_at(document.value, ("metadata", "namespace")) for document in read]
    found = sorted({printable(namespace) for namespace in named if namespace is not None})
    if len(found) > 1:
        expected = "one, and a topology for each: a role's name has no namespace"
        raise UsageError.of(
            Reason.MANIFEST_REFUSED, "metadata.namespace", f"several, {', '.join(found)}", expected
        )


def _name_roles(pods: Sequence[Pods], services: Sequence[Service]) -> None:
    """A role is called what others dial: as the pod's label says, else as its Service, else as the workload.

    Raises UsageError for a name that no role can have, and one that two would have.
    """
    taken: dict[str, Pods] = {}
    for one in pods:
        own = value_at(one.document.value, ("metadata", "name"))
        dialled = [service.name for service in services if one in service.selected]
        alone = {s.name for s in services if list(s.selected) == [one] and not s.outside}
        label, name = one.role, own
        if label is not None:
            name = label
        elif len(alone) == 1 and own not in alone and is_role_name(min(alone)):
            name = min(alone)
        if not is_role_name(name):
            expected = f"a name that a role can have, else a label {ROLE} on the pod"
            raise one.document.refused(("metadata", "name"), name or "nothing", expected)
        if taken.setdefault(name, one) is not one:
            expected = f"one workload for each role, by a label {ROLE} on the pod"
            raise one.document.refused((), f"role {name} twice", expected)
        one.role = name
        if label is None:
            one.note(f"For `toposeal inject`: --role {name}={one.document.name()}")
        for other in sorted({printable(other) for other in dialled if other != name}):
            one.note(f"Service/{other} leads here too, but a role has one name: callers dial {name}.")


def _serve_without_service(pods: Sequence[Pods], services: Sequence[Service]) -> None:
    for one in pods:
        ports = {port.number for port in one.ports if port.protocol == TCP}
        if ports and not any(one in service.selected for service in services):
            one.serves |= ports
            one.note("No Service selects it: `serves` are the TCP ports of its containers.")
