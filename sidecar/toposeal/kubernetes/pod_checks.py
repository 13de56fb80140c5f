"""What a pod may not be or have, since it would step around the sidecar: each a mismatch with its field.

The list is that of SECURITY.md, "What the pod has to give". What an image itself does is not seen here:
its user, for one, counts where `runAsUser` is not written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toposeal.errors import Mismatch, Reason, UsageError, printable
from toposeal.kubernetes.object import Path
from toposeal.kubernetes.parts import WORKLOAD_MOUNT, WORKLOAD_VARIABLE
from toposeal.kubernetes.workload import Workload
from toposeal.limits import DAEMON_UID, ENVOY_UID, MAX_MISMATCHES, POD_DNS_PORT, PROBE_UID, RESERVED_PORTS
from toposeal.topology.model import Role, Topology

OWN_NAMES = "toposeal"
_UIDS = (ENVOY_UID, DAEMON_UID, PROBE_UID)
_SHARED = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
# With any of these a container changes the rules, sends around them or becomes one of the exempt users.
_CAPABILITIES = frozenset(
    {"ALL", "BPF", "NET_ADMIN", "NET_RAW", "PERFMON", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE"}
    | {"SYS_PTRACE", "SYS_RAWIO"}
)
_DEFAULT = frozenset({"NET_RAW", "SETUID"})  # of container engines, unless they are dropped
_MESHES = frozenset({"istio-proxy", "istio-init", "istio-validation", "linkerd-proxy", "linkerd-init"})
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")

Found = tuple[Path, object, str]  # field, what is there, what has to be


def check_pod(workload: Workload, topology: Topology, runtime_class: str) -> None:
    """Raises UsageError with everything that is wrong with the pod of `workload`."""
    role = topology.roles[workload.role]
    found = [
        *_pod(workload, runtime_class),
        *_volumes(workload),
        *_workload(workload),
        *(one for container in _containers(workload) for one in _container(*container, topology, role)),
    ]
    if found:
        name = workload.document.name()
        raise UsageError(
            *(
                Mismatch(Reason.MANIFEST_REFUSED, f"{name} {'.'.join(path)}", printable(value), expected)
                for path, value, expected in found[:MAX_MISMATCHES]
            )
        )


def _pod(workload: Workload, runtime_class: str) -> Iterator[Found]:
    spec = workload.at(workload.spec)
    for name in _SHARED:
        if spec.get(name):
            yield (*workload.spec, name), spec[name], "false: the pod has its own namespaces"
    if "ephemeralContainers" in spec:
        yield (*workload.spec, "ephemeralContainers"), "a list", "none"
    yield from _users((*workload.spec, "securityContext"), spec.get("securityContext"))
    system = _mapping(spec.get("os")).get("name", "linux")
    if system != "linux":
        yield (*workload.spec, "os", "name"), system, "linux"
    if spec.get("runtimeClassName") not in (None, runtime_class):
        yield (*workload.spec, "runtimeClassName"), spec["runtimeClassName"], f"{runtime_class}, or none"


def _volumes(workload: Workload) -> Iterator[Found]:
    for index, volume in enumerate(_list(workload.at((*workload.spec, "volumes")))):
        path = (*workload.spec, f"volumes[{index}]")
        if "hostPath" in _mapping(volume):
            yield (*path, "hostPath"), "a path of the host's or the guest's", "no hostPath"
        if str(_mapping(volume).get("name")).startswith(OWN_NAMES):
            yield (*path, "name"), volume["name"], "another name: this one is toposeal's"


def _workload(workload: Workload) -> Iterator[Found]:
    """A controller that starts the next pod when the last one is ready waits for ever: none is before all."""
    value = workload.document.value
    policy = workload.at(("spec", "podManagementPolicy")) or "OrderedReady"
    replicas = workload.at(("spec", "replicas"))
    if value["kind"] == "StatefulSet" and policy != "Parallel" and replicas not in (None, 1):
        expected = "Parallel: pods become ready when all of them are there"
        yield ("spec", "podManagementPolicy"), policy, expected


def _containers(workload: Workload) -> Iterator[tuple[Path, dict[str, Any]]]:
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(_list(workload.at((*workload.spec, kind)))):
            named = _mapping(container)
            name = printable(named.get("name", index))
            yield (*workload.spec, f"{kind}[{name}]"), named


def _container(path: Path, container: dict[str, Any], topology: Topology, role: Role) -> Iterator[Found]:
    name = str(container.get("name"))
    if name.startswith(OWN_NAMES):
        yield (*path, "name"), name, "another name: this one is toposeal's"
    if name in _MESHES:
        yield (*path, "name"), name, "no other mesh's sidecar: both would redirect the same traffic"
    context = _mapping(container.get("securityContext"))
    security = (*path, "securityContext")
    if context.get("privileged"):
        yield (*security, "privileged"), context["privileged"], "false"
    if context.get("allowPrivilegeEscalation") is not False:
        expected = "false: a file with the set-user-ID bit makes one of the exempt users"
        found = context.get("allowPrivilegeEscalation", "nothing")
        yield (*security, "allowPrivilegeEscalation"), found, expected
    yield from _users(security, context)
    yield from _capabilities((*security, "capabilities"), context.get("capabilities"))
    yield from _ports(path, container, topology, role)
    yield from _asked(path, container, role)
    if role.workload_api:
        yield from _identified(path, container)


def _users(path: Path, context: object) -> Iterator[Found]:
    for name in ("runAsUser", "runAsGroup"):
        user = _mapping(context).get(name)
        if user in _UIDS:
            yield (*path, name), user, f"none of {', '.join(map(str, _UIDS))}: these are the sidecar's"


def _capabilities(path: Path, given: object) -> Iterator[Found]:
    added, dropped = (
        {str(name).upper().removeprefix("CAP_") for name in _list(_mapping(given).get(key))}
        for key in ("add", "drop")
    )
    for name in sorted(added & _CAPABILITIES):
        yield (*path, "add"), name, "none that steps around the pod's rules"
    if "ALL" not in dropped and not dropped >= _DEFAULT:
        expected = f"ALL, or {' and '.join(sorted(_DEFAULT))}, which containers have unless they are dropped"
        yield (*path, "drop"), ", ".join(sorted(dropped)) or "nothing", expected


def _ports(path: Path, container: Mapping[str, Any], topology: Topology, role: Role) -> Iterator[Found]:
    taken = {POD_DNS_PORT, topology.attestation_port, role.metrics} - {None}
    for index, port in enumerate(_list(container.get("ports"))):
        number = _mapping(port).get("containerPort")
        if isinstance(number, int) and (number in taken or number in RESERVED_PORTS):
            own = f"not {POD_DNS_PORT}, {RESERVED_PORTS.start} to {RESERVED_PORTS.stop - 1}, "
            expected = f"{own}the attestation port {topology.attestation_port} or the role's metrics port"
            yield (*path, f"ports[{index}]", "containerPort"), number, expected


def _identified(path: Path, container: Mapping[str, Any]) -> Iterator[Found]:
    """What the application is told of its identity is toposeal's to say."""
    for index, variable in enumerate(_list(container.get("env"))):
        if _mapping(variable).get("name") == WORKLOAD_VARIABLE:
            yield (*path, f"env[{index}]", "name"), WORKLOAD_VARIABLE, "none: toposeal sets it"
    for index, mount in enumerate(_list(container.get("volumeMounts"))):
        where = str(_mapping(mount).get("mountPath")).rstrip("/")
        if f"{where}/".startswith(f"{WORKLOAD_MOUNT}/"):
            expected = f"nothing else at {WORKLOAD_MOUNT}: the role has workload_api"
            yield (*path, f"volumeMounts[{index}]", "mountPath"), where, expected


def _asked(path: Path, container: dict[str, Any], role: Role) -> Iterator[Found]:
    """The kubelet's questions from outside: only what the topology names is answered."""
    handlers = [((*path, name), container.get(name)) for name in _PROBES]
    lifecycle = _mapping(container.get("lifecycle"))
    handlers += [((*path, "lifecycle", name), lifecycle.get(name)) for name in ("postStart", "preStop")]
    for where, handler in handlers:
        asked = _mapping(handler)
        for kind in ("tcpSocket", "grpc"):
            if kind in asked:
                yield (
                    (*where, kind),
                    "a question over the network",
                    "httpGet that the topology names, or exec",
                )
        if "httpGet" in asked:
            yield from _http(where, _mapping(asked["httpGet"]), container, role)


def _http(path: Path, get: Mapping[str, Any], container: Mapping[str, Any], role: Role) -> Iterator[Found]:
    port, target = get.get("port"), get.get("path", "/")
    named = [_mapping(p) for p in _list(container.get("ports"))]
    number = next((p.get("containerPort") for p in named if p.get("name") == port), port)
    known = [(probe.port, probe.path) for probe in role.probes]  # what is asked for may be anything
    if get.get("scheme", "HTTP") != "HTTP" or "host" in get or (number, target) not in known:
        found = f"{get.get('scheme', 'HTTP')} {number} {target}"
        yield (*path, "httpGet"), found, f"a port and path of roles.{role.name}.probes in the topology"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
