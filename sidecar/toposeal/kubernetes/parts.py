"""What inject puts into a pod, as YAML text: lockdown, sidecar, volumes, annotation; and the Service. No IO.

Images are quoted by the caller's check, names come from the topology, the rest is fixed text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toposeal.kubernetes.initdata import ANNOTATION
from toposeal.limits import PEER_PORT
from toposeal.names import WORKLOAD_DIRECTORY, WORKLOAD_SOCKET
from toposeal.outside.endpoint import ATTESTATION_PATH
from toposeal.topology.model import InstanceRegister, Role, Topology

# What the daemon uses, as docker-compose.yml has it; it drops the rest itself.
CAPABILITIES = ("NET_ADMIN", "SETUID", "SETGID", "KILL", "CHOWN", "DAC_OVERRIDE")
_NONCE = "0" * 64  # whoever asks for readiness does not verify the answer
_CONFIGFS = "/sys/kernel/config"
_REGISTERS = "/sys/devices/virtual/misc"  # of tdx_guest, which the host's engine would look for in vain
_RUN = "/run"
# Where the sidecar has its state directory, unless it is told another; `toposeal run` says so too.
_STATE_DIR = f"{_RUN}/toposeal"
WORKLOAD_MOUNT = f"{_STATE_DIR}/{WORKLOAD_DIRECTORY}"
WORKLOAD_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"
_FILES = ("initdata", "topology.json", "collateral.json")


_WORKLOAD_VOLUME = "- name: toposeal-workload\n  emptyDir: {medium: Memory, sizeLimit: 1Mi}\n"


@dataclass(frozen=True)
class Settings:
    """What the operator decides: nothing of it is trusted by a member."""

    image: str
    runtime_class: str
    config_map: str


def service_name(role: str) -> str:
    """The headless Service by which members find those of `role`."""
    return f"toposeal-{role}"


def extends_register(role: Role) -> bool:
    """Whether a reference of `role` wants the instance in RTMR3."""
    return any(isinstance(reference.rtmr3, InstanceRegister) for reference in role.tdx)


def annotation_entry(value: str) -> str:
    """The entry of the pod's annotations; `value` is base64."""
    return f"{ANNOTATION}: {value}\n"


def runtime_class(settings: Settings) -> str:
    """An entry of the pod's spec."""
    return f"runtimeClassName: {_text(settings.runtime_class)}\n"


def init_containers(settings: Settings, topology: Topology, role: Role, services: Iterable[str]) -> str:
    """List items: first the lockdown, then the sidecar, which Kubernetes starts before all others and, as a
    native sidecar, waits for until its startup probe is answered: when the mesh is sealed. Members are looked
    for by the names of `services`."""
    image = _text(settings.image)
    peers = ",".join(f"{name}:{PEER_PORT}" for name in services)
    files = dict(zip(("initdata", "topology", "collateral"), _FILES, strict=True))
    command = ["toposeal", "run", *(f"--{name}=/etc/toposeal/{file}" for name, file in files.items())]
    mounts: list[tuple[str, str, str | None]] = [("toposeal-run", _RUN, None)]
    mounts += [("toposeal-workload", WORKLOAD_MOUNT, None)] if role.workload_api else []
    mounts += [("toposeal-files", f"/etc/toposeal/{file}", file) for file in _FILES]
    mounts += [(name, path, None) for name, path in _guest_paths(role)]
    return f"""- name: toposeal-lockdown
  image: {image}
  command: [toposeal, firewall, apply]
{_security(["NET_ADMIN"])}
- name: toposeal
  image: {image}
  restartPolicy: Always
  command: {_flow([*command, f"--peers={peers}"])}
  startupProbe:
    httpGet:
      scheme: HTTPS
      port: {topology.attestation_port}
      path: {ATTESTATION_PATH}?nonce={_NONCE}
    periodSeconds: 2
    timeoutSeconds: 15
    failureThreshold: 1800
{_security(CAPABILITIES)}
  volumeMounts:
{"".join(map(_mount, mounts))}"""


def volumes(settings: Settings, role: Role) -> str:
    """List items. The paths of the guest are those of the VM: Kata mounts nothing of the host's /sys."""
    guest = "".join(f"- name: {name}\n  hostPath: {{path: {path}}}\n" for name, path in _guest_paths(role))
    return f"""- name: toposeal-run
  emptyDir: {{medium: Memory, sizeLimit: 64Mi}}
{_WORKLOAD_VOLUME if role.workload_api else ""}- name: toposeal-files
  projected:
    sources:
    - downwardAPI:
        items:
        - path: initdata
          fieldRef: {{fieldPath: "metadata.annotations['{ANNOTATION}']"}}
    - configMap:
        name: {_text(settings.config_map)}
        items:
        - {{key: topology.json, path: topology.json}}
        - {{key: collateral.json, path: collateral.json}}
{guest}"""


def workload_mount() -> str:
    """A list item of the application's containers. Connecting to a socket is no writing."""
    return f"- {{name: toposeal-workload, mountPath: {WORKLOAD_MOUNT}, readOnly: true}}\n"


def workload_variable() -> str:
    """A list item of the application's containers."""
    return f'- {{name: {WORKLOAD_VARIABLE}, value: "unix://{_STATE_DIR}/{WORKLOAD_SOCKET}"}}\n'


def service(role: str, namespace: str | None, labels: Mapping[str, Any]) -> str:
    """A document: the addresses of `role`, also of pods that are not ready: they become ready together."""
    where = f"  namespace: {_text(namespace)}\n" if namespace else ""
    selector = "".join(f"    {_text(key)}: {_text(value)}\n" for key, value in sorted(labels.items()))
    return f"""---
apiVersion: v1
kind: Service
metadata:
  name: {service_name(role)}
{where}spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
{selector}  ports:
  - {{name: peer, port: {PEER_PORT}}}
"""


def _security(capabilities: Iterable[str]) -> str:
    return f"""  securityContext:
    runAsUser: 0
    runAsGroup: 0
    runAsNonRoot: false
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    seccompProfile: {{type: RuntimeDefault}}
    capabilities: {{drop: [ALL], add: [{", ".join(capabilities)}]}}"""


def _guest_paths(role: Role) -> tuple[tuple[str, str], ...]:
    """Where quotes are asked for and, if a reference wants the instance, the register is extended."""
    tsm = (("toposeal-configfs", _CONFIGFS),)
    return (*tsm, ("toposeal-rtmr", _REGISTERS)) if extends_register(role) else tsm


def _mount(mount: tuple[str, str, str | None]) -> str:
    name, path, file = mount
    rest = f", subPath: {file}, readOnly: true" if file else ""
    return f"  - {{name: {name}, mountPath: {path}{rest}}}\n"


def _flow(items: Iterable[str]) -> str:
    return "[" + ", ".join(_text(item) for item in items) + "]"


def _text(value: object) -> str:
    """Any text as YAML's double quotes, of which JSON's are a part."""
    return json.dumps(str(value))
