"""Which documents of a stream run pods, where in them the pod is, and which role it plays. No IO."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toposeal.errors import Reason, UsageError, printable
from toposeal.kubernetes.manifest import check_written_out
from toposeal.kubernetes.object import Object, Path
from toposeal.names import is_name

ROLE = "toposeal.dev/role"
_TEMPLATE = ("spec", "template")
# Kind and group of what is injected into, and where its pod is.
_PODS: Mapping[tuple[str, str], Path] = {
    ("Pod", "v1"): (),
    ("Deployment", "apps/v1"): _TEMPLATE,
    ("StatefulSet", "apps/v1"): _TEMPLATE,
    ("DaemonSet", "apps/v1"): _TEMPLATE,
    ("Job", "batch/v1"): _TEMPLATE,
    ("CronJob", "batch/v1"): ("spec", "jobTemplate", *_TEMPLATE),
}
_KNOWN = ", ".join(kind for kind, _ in _PODS)
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Workload:
    """A document that runs pods of one role; `pod` leads to their metadata and spec."""

    document: Object
    pod: Path
    role: str

    @property
    def metadata(self) -> Path:
        return (*self.pod, "metadata")

    @property
    def spec(self) -> Path:
        return (*self.pod, "spec")

    def at(self, path: Path) -> Any:
        """The value at `path` of the document, None where there is none."""
        return value_at(self.document.value, path)


def workloads(documents: Iterable[Object], named: Mapping[str, str], roles: Iterable[str]) -> list[Workload]:
    """Those of `documents` that run pods. `named` gives roles to `Kind/name`, beside the label or annotation
    toposeal.dev/role of a pod; each has to be one of `roles`. Raises UsageError.
    """
    known, found = sorted(roles), []
    for document in documents:
        pod = pod_path(document)
        if pod is not None:
            check_written_out(document)
            found.append(Workload(document, pod, _role(document, pod, named, known)))
    unused = sorted(set(named) - {workload.document.name() for workload in found})
    if unused:
        raise UsageError.of(
            Reason.USAGE, f"--role {unused[0]}", "no such document", "Kind/name of a workload"
        )
    return found


def value_at(value: Any, path: Path) -> Any:
    """What `path` leads to, None where it leads nowhere."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def is_role_name(name: object) -> bool:
    """Whether a role of this name can have a Service."""
    return is_name(name) and _DNS_LABEL.fullmatch(str(name)) is not None


def pod_path(document: Object) -> Path | None:
    """Where the pod of a document is; None where it has none. Raises UsageError for an unknown kind."""
    value = document.value
    if not isinstance(value, dict):
        return None
    path = _PODS.get((str(value.get("kind")), str(value.get("apiVersion"))))
    if path is not None:
        if not isinstance(value_at(value, (*path, "spec")), dict):
            raise document.refused((*path, "spec"), "nothing", "the specification of a pod")
        return path
    if _holds_pod(value):
        found = f"{value.get('kind')} of {value.get('apiVersion')}, which holds a pod"
        raise document.refused(("kind",), found, f"{_KNOWN} of v1, apps/v1 and batch/v1")
    return None


def _holds_pod(value: Any) -> bool:
    """Whether containers with images are somewhere in it, whatever it calls itself."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, dict):
            containers = here.get("containers")
            if isinstance(containers, list) and any(isinstance(c, dict) and "image" in c for c in containers):
                return True
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
    return False


def _role(document: Object, pod: Path, named: Mapping[str, str], known: list[str]) -> str:
    metadata = (*pod, "metadata")
    said = {
        "labels": value_at(document.value, (*metadata, "labels", ROLE)),
        "annotations": value_at(document.value, (*metadata, "annotations", ROLE)),
        "--role": named.get(document.name()),
    }
    given = {str(role) for role in said.values() if role is not None}
    expected = f"one of {', '.join(known)}, as label or annotation {ROLE} of the pod, or by --role"
    if len(given) != 1:
        raise document.refused(metadata, " and ".join(sorted(given)) or "no role", expected)
    role = given.pop()
    if role not in known:
        raise document.refused(metadata, printable(role), expected)
    if _DNS_LABEL.fullmatch(role) is None:
        raise document.refused(metadata, role, "a role that begins and ends with a letter or digit")
    return role
