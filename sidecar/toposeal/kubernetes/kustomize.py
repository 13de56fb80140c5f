"""Each role's initdata as a component for kustomize, YAML text. No IO.

What every pod gets is the same in all applications: docs/examples/kustomize. Both select workloads by their
label toposeal.dev/role.
"""

from __future__ import annotations

from collections.abc import Mapping

from toposeal.kubernetes import parts
from toposeal.kubernetes.initdata import annotation
from toposeal.kubernetes.inject import Injection, inject
from toposeal.kubernetes.manifest import read, without_injected
from toposeal.kubernetes.workload import Workload, workloads
from toposeal.topology.model import Role

_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job")  # all have the pod at spec.template
_ROLE, _REGISTER = "toposeal.dev/role", "toposeal.dev/rtmr3"
# Kustomize wants a patch to name an object, and goes by the target.
_HEAD = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: each\n"


def initdata_component(text: str, injection: Injection, named: Mapping[str, str]) -> str:
    """A kustomization.yaml that gives each role's pods their initdata, for the manifests in `text`.

    Raises UsageError for all that `inject` refuses, and for a workload that the components would pass over.
    """
    inject(text, injection, named)
    for workload in workloads(read(without_injected(text)), named, injection.topology.roles):
        _check_selected(workload, injection.topology.roles[workload.role])
    patches = "".join(_annotated(role, annotation(one)) for role, one in sorted(injection.initdata.items()))
    return f"apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches:\n{patches}"


def _check_selected(workload: Workload, role: Role) -> None:
    kind = workload.document.value["kind"]
    if kind not in _KINDS:
        raise workload.document.refused(
            ("kind",), kind, f"one of {', '.join(_KINDS)}; else without kustomize"
        )
    if role.workload_api:
        found = f"{role.name}, whose workload_api has its place in each container"
        raise workload.document.refused((), found, "a role without it; else `toposeal inject`")
    wanted = {_ROLE: role.name} | ({_REGISTER: "instance"} if parts.extends_register(role) else {})
    for key, value in wanted.items():
        found = workload.at(("metadata", "labels", key))
        if found != value:
            raise workload.document.refused(("metadata", "labels", key), found, f"{value}, to be selected")


def _annotated(role: str, value: str) -> str:
    entry = parts.annotation_entry(value)
    patch = f"{_HEAD}spec:\n  template:\n    metadata:\n      annotations:\n        {entry}"
    target = f"{{kind: {'|'.join(_KINDS)}, labelSelector: {_ROLE}={role}}}"
    return f"- target: {target}\n  patch: |\n{_indented(patch, 4)}"


def _indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}" for line in text.splitlines(keepends=True))
