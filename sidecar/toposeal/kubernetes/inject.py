"""From an application's manifests to the same with sidecars: refused whole, or done whole. No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from toposeal.errors import Reason, UsageError
from toposeal.kubernetes import parts
from toposeal.kubernetes.initdata import FIELDS, Initdata, annotation
from toposeal.kubernetes.manifest import read, without_injected, write
from toposeal.kubernetes.object import Object
from toposeal.kubernetes.parts import Settings
from toposeal.kubernetes.pod_checks import check_pod
from toposeal.kubernetes.workload import Workload, value_at, workloads
from toposeal.topology.model import Role, Topology


@dataclass(frozen=True)
class Injection:
    """What goes into every pod of every role: the documents by role, all for one kind of TEE."""

    topology: Topology
    kind: str
    initdata: Mapping[str, Initdata]
    settings: Settings
    draft: bool = False  # without comparing digests, for a tool that reads the result to make policies


def inject(text: str, injection: Injection, named: Mapping[str, str]) -> str:
    """`text`, a stream of manifests, with toposeal in every pod. Its own result comes back as it is.

    `named` gives roles to `Kind/name`. Raises UsageError (MANIFEST_REFUSED with the document and field) for
    a pod that cannot be taken, and for a result of its own that somebody, or other arguments, have made
    different: then the original has to be injected.
    """
    original = without_injected(text)
    injected = _inject(original, injection, named)
    if original != text and injected != text:
        expected = "what these arguments make of the rest, unaltered; else the original file"
        raise UsageError.of(Reason.MANIFEST_REFUSED, "manifest", "another injected part", expected)
    return injected


def inject_pod(pod: Object, injection: Injection) -> None:
    """The same for one pod that is being made, whose `value` it changes. How many there are of its role,
    and by which Services they are found, is not asked: that is to be seen in no pod.

    Raises UsageError; the value is of no use then.
    """
    for workload in workloads([pod], {}, injection.topology.roles):
        _check_digest(injection.topology.roles[workload.role], injection)
        check_pod(workload, injection.topology, injection.settings.runtime_class)
        _into_pod(workload, injection)


def roles_of(text: str, topology: Topology, named: Mapping[str, str]) -> list[str]:
    """The roles that the pods of `text` play, each once. Raises UsageError."""
    found = workloads(read(without_injected(text)), named, topology.roles)
    return sorted({workload.role for workload in found})


def check_digests(roles: Iterable[Role], injection: Injection) -> None:
    """Raises UsageError for a role whose digest the topology does not name."""
    for role in roles:
        _check_digest(role, injection)


def services(found: Iterable[Workload]) -> str:
    """The documents by which members find those of each role. Raises UsageError for a pod without labels."""
    return "".join(_service(workload) for workload in found)


def _inject(text: str, injection: Injection, named: Mapping[str, str]) -> str:
    documents = read(text)
    found = workloads(documents, named, injection.topology.roles)
    if not found:
        return text
    _check_roles(found, injection)
    for workload in found:
        check_pod(workload, injection.topology, injection.settings.runtime_class)
    appended = services(found)
    for workload in found:
        _into_pod(workload, injection)
    return write(text if text.endswith("\n") else f"{text}\n", documents, appended)


def _into_pod(workload: Workload, injection: Injection) -> None:
    role = injection.topology.roles[workload.role]
    settings, put = injection.settings, workload.document.put
    if role.workload_api:
        _into_containers(workload)  # first: while the lists hold the application's alone
    peers = map(parts.service_name, injection.topology.roles)
    lists = {
        "initContainers": parts.init_containers(settings, injection.topology, role, peers),
        "volumes": parts.volumes(settings, role),
    }
    entries = ""
    if workload.at((*workload.spec, "runtimeClassName")) is None:
        entries += parts.runtime_class(settings)
    for name, items in lists.items():
        if name in workload.at(workload.spec):
            put((*workload.spec, name), items)
        else:
            entries += f"{name}:\n{items}"
    if entries:
        put(workload.spec, entries)
    value = annotation(injection.initdata[workload.role])
    put((*workload.metadata, "annotations"), parts.annotation_entry(value))


def _into_containers(workload: Workload) -> None:
    """Where the application finds its identity, in every container of its own: the pod has one."""
    put, spec = workload.document.put, workload.spec
    for kind in ("initContainers", "containers"):
        containers = workload.at((*spec, kind))
        for index, container in enumerate(containers if isinstance(containers, list) else ()):
            items = {"env": parts.workload_variable(), "volumeMounts": parts.workload_mount()}
            entries = ""
            for name, item in items.items():
                if isinstance(container, dict) and name in container:
                    put((*spec, kind, index, name), item)
                else:
                    entries += f"{name}:\n{item}"
            if entries:
                put((*spec, kind, index), entries)


def _service(workload: Workload) -> str:
    labels = workload.at((*workload.metadata, "labels"))
    if not isinstance(labels, dict) or not labels:
        raise workload.document.refused(
            (*workload.metadata, "labels"), "none", "labels by which a Service finds these pods"
        )
    namespace = value_at(workload.document.value, ("metadata", "namespace"))
    return parts.service(workload.role, namespace, labels)


def _check_roles(found: Sequence[Workload], injection: Injection) -> None:
    """Each role is one workload, in the bounds of the topology, with a digest that the topology names."""
    counts = Counter(workload.role for workload in found)
    for workload in found:
        role = injection.topology.roles[workload.role]
        if counts[role.name] > 1:
            raise workload.document.refused((), f"role {role.name} twice", "one workload for each role")
        replicas = _replicas(workload)
        if replicas is not None and not role.min_replicas <= replicas <= role.max_replicas:
            bounds = f"{role.min_replicas} to {role.max_replicas}, as roles.{role.name}.replicas"
            raise workload.document.refused(("spec", "replicas"), replicas, bounds)
        if not injection.draft:
            _check_digest(role, injection)


def _replicas(workload: Workload) -> int | None:
    """How many pods there will be; None where the cluster decides."""
    kind = workload.document.value["kind"]
    fields = {"Deployment": ("spec", "replicas"), "StatefulSet": ("spec", "replicas")}
    if kind not in fields:
        return 1 if kind == "Pod" else None
    given = workload.at(fields[kind])
    return given if isinstance(given, int) else 1


def _check_digest(role: Role, injection: Injection) -> None:
    field = FIELDS[injection.kind]
    known = {getattr(reference, field) for reference in getattr(role, injection.kind)}
    digest = injection.initdata[role.name].digest
    if digest not in known:
        path = f"roles.{role.name}.{injection.kind}[].{field}"
        found = ", ".join(sorted(value.hex() for value in known)) or "nothing"
        raise UsageError.of(Reason.CONFIG_DIGEST, path, found, f"{digest.hex()}, of the pod's initdata")
