"""What a draft takes from Services, Ingresses and autoscalers: ports, addresses, ways in, bounds. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toposeal.errors import printable
from toposeal.kubernetes.draft_pods import TCP, Pods, port_number
from toposeal.kubernetes.fields import Field
from toposeal.kubernetes.selectors import has
from toposeal.limits import MAX_REPLICAS

_INSIDE, _OUTSIDE = ("ClusterIP",), ("NodePort", "LoadBalancer")
_TYPES = (*_INSIDE, *_OUTSIDE, "ExternalName")


@dataclass(frozen=True, eq=False)
class Service:
    """A Service and the pods of these files that it selects."""

    field: Field
    name: str
    selected: Sequence[Pods]

    @property
    def outside(self) -> bool:
        return self.field.at("spec", "type").text() in _OUTSIDE

    def target(self, port: Field, pods: Pods) -> int:
        """Where `port`, one of this Service's, leads in `pods`. Raises UsageError for a name they lack."""
        target = port.at("targetPort")
        if not isinstance(target.value, str):
            return port_number(port.at("port") if target.value is None else target)
        number = pods.named(target.value)
        if number is None:
            raise target.refused(f"a TCP port of {pods.document.name()} by its name, or a number")
        return number

    def carried(self) -> list[Field]:
        """Its TCP ports."""
        ports = self.field.at("spec", "ports").items()
        return [port for port in ports if (port.at("protocol").text() or TCP) == TCP]


def read_service(field: Field, pods: Sequence[Pods], notes: dict[str, None]) -> Service | None:
    """None, and a note, for one that leads to no pods of these files. Raises UsageError."""
    name, spec = field.document.name(), field.at("spec")
    kind = spec.at("type").text() or _INSIDE[0]
    if kind not in _TYPES:
        raise spec.at("type").refused(f"one of {', '.join(_TYPES)}")
    wanted = spec.at("selector").labels()
    selected = [one for one in pods if wanted and kind != _TYPES[-1] and has(one.labels, wanted)]
    if selected:
        return Service(field, field.at("metadata", "name").text() or "", selected)
    external = spec.at("externalName").text()
    leads = (
        f"leads to {printable(external)}: `egress` of its callers names that"
        if external
        else "selects no pod"
    )
    notes.setdefault(f"{name} {leads}.")
    return None


def take_service(service: Service) -> None:
    """Into the roles it leads to: served ports, addresses, ways in, notes."""
    name = service.field.document.name()
    for pods in service.selected:
        for port in service.carried():
            number, target = port_number(port.at("port")), service.target(port, pods)
            pods.serves.add(target)
            if number != target and not service.outside:
                pods.note(f"{name} turns {number} into {target}, which is not copied: callers dial {target}.")
            if service.outside:
                _way_in(pods, target, f"{name}, port {number},")
        if len(service.carried()) < len(service.field.at("spec", "ports").items()):
            pods.note(f"{name}: its ports of UDP or SCTP are not carried.")
    _addresses(service)


def take_ingress(field: Field, services: Sequence[Service], notes: dict[str, None]) -> None:
    """The ways in that an Ingress opens. Raises UsageError."""
    spec = field.at("spec")
    backends = [spec.at("defaultBackend")]
    backends += [
        path.at("backend") for rule in spec.at("rules").items() for path in rule.at("http", "paths").items()
    ]
    for backend in (one for one in backends if one.value is not None):
        told = backend.at("service", "name").text()
        found = [service for service in services if service.name == told]
        port = backend.at("service", "port")
        leads = [
            (pods, service.target(one, pods))
            for service in found
            for one in service.carried()
            if _is(one, port)
            for pods in service.selected
        ]
        for pods, target in leads:
            _way_in(pods, target, field.document.name())
        if not leads:
            where = ".".join(backend.path)
            notes.setdefault(f"{field.document.name()} {where}: no Service and port of these files.")


def take_autoscaler(field: Field, pods: Sequence[Pods], notes: dict[str, None]) -> None:
    """Bounds of the workload that it scales. Raises UsageError."""
    target, spec = field.at("spec", "scaleTargetRef"), field.at("spec")
    name = printable(f"{target.at('kind').text()}/{target.at('name').text()}")
    scaled = [one for one in pods if one.document.name() == name]
    low = spec.at("minReplicas").number(0, MAX_REPLICAS)
    high = spec.at("maxReplicas").number(1, MAX_REPLICAS)
    if high is None:
        raise spec.at("maxReplicas").refused(f"an integer from 1 to {MAX_REPLICAS}")
    for one in scaled:
        if one.scaled:
            raise target.refused("a workload that nothing else scales")
        one.scaled = True
        one.replicas = {"min": 1 if low is None else low, "max": high}
    if not scaled:
        notes.setdefault(f"{field.document.name()} scales {name}, which is not in these files.")


def _addresses(service: Service) -> None:
    spec = service.field.at("spec")
    listed = [spec.at("clusterIP"), *spec.at("clusterIPs").items()]
    given = {text for text in (one.text() for one in listed) if text not in (None, "", "None")}
    for pods in service.selected:
        if len(service.selected) == 1:
            pods.addresses |= given
        elif given:
            pods.note(f"{service.field.document.name()} leads to several roles: its address is no role's.")


def _is(one: Field, port: Field) -> bool:
    """Whether a backend's port is this one of its Service."""
    name, number = port.at("name").text(), port.at("number").number(1, 65_535)
    if name is not None:
        return one.at("name").text() == name
    return port_number(one.at("port")) == number


def _way_in(pods: Pods, target: int, by: str) -> None:
    pods.serves.add(target)
    pods.ingress.add(target)
    pods.note(
        f"{by} leads outside clients to {target}: `port` of `ingress` is where TLS is expected of them."
    )
