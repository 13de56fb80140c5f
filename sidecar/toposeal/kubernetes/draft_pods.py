"""What a draft says of the pods of one workload: replicas, ports, probes. No IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from toposeal.errors import TopologyError, printable
from toposeal.kubernetes.fields import Field
from toposeal.kubernetes.manifest import Document
from toposeal.kubernetes.object import Path
from toposeal.kubernetes.workload import ROLE
from toposeal.limits import MAX_REPLICAS
from toposeal.topology.probes import PROBES

TCP = "TCP"
_PORTS = (1, 65_535)
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HOOKS = ("postStart", "preStop")


@dataclass(frozen=True)
class Blank:
    """What manifests do not say: `expected` is what its owner puts there."""

    expected: str


@dataclass(frozen=True)
class ContainerPort:
    number: int
    name: str | None
    protocol: str


@dataclass(eq=False)
class Pods:
    """The pods of one workload, and what is found about the role that they play."""

    document: Document
    labels: Mapping[str, str]
    ports: tuple[ContainerPort, ...]
    role: str | None  # as label or annotation say
    replicas: dict[str, int | Blank]
    probes: list[dict[str, Any]]
    notes: dict[str, None]  # in order, each once
    scaled: bool = False  # by an autoscaler
    serves: set[int] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    ingress: set[int] = field(default_factory=set)  # targets of what outside clients reach
    calls: set[tuple[str, int]] = field(default_factory=set)
    egress: list[dict[str, Any]] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.setdefault(text)

    def named(self, name: str) -> int | None:
        """The TCP port of that name."""
        found = (port.number for port in self.ports if port.name == name and port.protocol == TCP)
        return next(found, None)


def read_pods(document: Document, pod: Path) -> Pods:
    """What a workload's own document says; `pod` leads to its pods' metadata and spec. Raises UsageError."""
    whole = Field(document, (), document.value)
    metadata, spec = (whole.at(*pod, name) for name in ("metadata", "spec"))
    if spec.at("hostNetwork").value:
        raise spec.at("hostNetwork").refused("false: the pod has its own namespaces")
    notes: dict[str, None] = {}
    containers = [item for name in ("initContainers", "containers") for item in spec.at(name).items()]
    return Pods(
        document,
        metadata.at("labels").labels(),
        tuple(_ports(containers, notes)),
        _role(metadata),
        _replicas(whole, notes),
        _probes(containers, notes),
        notes,
    )


def port_number(port: Field) -> int:
    """A port that has to be there."""
    number = port.number(*_PORTS)
    if number is None:
        raise port.refused("an integer from 1 to 65535")
    return number


def _role(metadata: Field) -> str | None:
    said = {metadata.at(where, ROLE).text() for where in ("labels", "annotations")} - {None}
    if len(said) > 1:
        raise metadata.at("annotations", ROLE).refused("the role that the label says")
    return said.pop() if said else None


def _ports(containers: list[Field], notes: dict[str, None]) -> Iterator[ContainerPort]:
    for port in (port for container in containers for port in container.at("ports").items()):
        number = port_number(port.at("containerPort"))
        protocol = port.at("protocol").text() or TCP
        if protocol != TCP:
            notes.setdefault(f"containerPort {number}: {printable(protocol)} is not carried.")
        yield ContainerPort(number, port.at("name").text(), protocol)


def _replicas(whole: Field, notes: dict[str, None]) -> dict[str, int | Blank]:
    kind = whole.value["kind"]
    if kind in ("Deployment", "StatefulSet"):
        return _bounds(whole.at("spec", "replicas").number(0, MAX_REPLICAS))
    if kind == "DaemonSet":
        return {"min": Blank("as few nodes as it may run on"), "max": Blank("as many nodes as it may run on")}
    if kind == "Pod":
        return _bounds(1)
    notes.setdefault("A job ends, and with a `min` above 0 the mesh cannot seal again without it.")
    path = ("spec", "jobTemplate") if kind == "CronJob" else ()
    parallel = whole.at(*path, "spec", "parallelism").number(1, MAX_REPLICAS)
    return {"min": Blank("0, or how many jobs' pods the seal waits for"), "max": parallel or 1}


def _bounds(replicas: int | None) -> dict[str, int | Blank]:
    """Exactly so many, 1 where nothing is said; how many one that is scaled to none may have is not known."""
    if replicas == 0:
        return {"min": 0, "max": Blank("how many there may be")}
    return {"min": replicas or 1, "max": replicas or 1}


def _probes(containers: list[Field], notes: dict[str, None]) -> list[dict[str, Any]]:
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for container in containers:
        for probe in map(container.at, _PROBES):
            if any(kind in probe.mapping() for kind in ("tcpSocket", "grpc")):
                notes.setdefault(f"{'.'.join(probe.path[-2:])}: tcpSocket and grpc are not answered.")
            if "httpGet" in probe.mapping():
                entry = _probe(probe.at("httpGet"), container, notes)
                if entry is not None:
                    found.setdefault((entry["port"], entry["path"]), entry)
        for hook in (container.at("lifecycle", name) for name in _HOOKS):
            if set(hook.mapping()) & {"httpGet", "tcpSocket"}:
                notes.setdefault(f"{'.'.join(hook.path[-3:])}: a hook over the network reaches nobody.")
    return [found[place] for place in sorted(found)]


def _probe(get: Field, container: Field, notes: dict[str, None]) -> dict[str, Any] | None:
    """An entry of `probes`; None where it asks for more than a path in clear."""
    port = get.at("port")
    if isinstance(port.value, str):
        ports = container.at("ports").items()
        port = next((one.at("containerPort") for one in ports if one.at("name").value == port.value), port)
    number = port_number(port)
    entry = {"port": number, "path": get.at("path").text() or "/", "target": number}
    plain = get.at("scheme").text() in (None, "HTTP") and not set(get.mapping()) & {"host", "httpHeaders"}
    try:
        PROBES.read([entry], "probes")
    except TopologyError:
        plain = False
    if not plain:
        notes.setdefault(
            f"{'.'.join(get.path[-3:-1])}: only a path is answered: no query, TLS, host, headers."
        )
    return entry if plain else None
