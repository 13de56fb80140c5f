"""A library chart for Helm: named templates that hold what `inject` puts into the pods of each role. No IO.

A chart includes them where `inject` would put the same text; docs/examples/helm is one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from toposeal.kubernetes import parts
from toposeal.kubernetes.initdata import annotation
from toposeal.kubernetes.inject import Injection, inject, services
from toposeal.kubernetes.manifest import read, without_injected
from toposeal.kubernetes.workload import workloads
from toposeal.topology.model import Role

CHART, TEMPLATES = "Chart.yaml", "templates/_toposeal.tpl"
_HEAD = "{{/* Made by `toposeal inject --helm`, and not to be edited. */}}\n"
_Part = Callable[[Role], str]


def library_chart(text: str, injection: Injection, named: Mapping[str, str]) -> dict[str, str]:
    """The files of the chart by their names, for the manifests in `text`, which the chart renders without it.

    Raises UsageError for all that `inject` refuses.
    """
    inject(text, injection, named)
    found = workloads(read(without_injected(text)), named, injection.topology.roles)
    roles = [injection.topology.roles[workload.role] for workload in found]
    defined = "".join(_by_role(name, roles, part) for name, part in _parts(injection).items())
    listed = _defined("services", _literal(services(found)))
    return {CHART: _chart(injection), TEMPLATES: f"{_HEAD}{defined}{listed}"}


def _parts(injection: Injection) -> dict[str, _Part]:
    """What a template is called, and what it gives a role."""
    settings, topology = injection.settings, injection.topology
    peers = [parts.service_name(role) for role in topology.roles]
    return {
        "annotations": lambda role: parts.annotation_entry(annotation(injection.initdata[role.name])),
        "runtimeClass": lambda role: parts.runtime_class(settings),
        "initContainers": lambda role: parts.init_containers(settings, topology, role, peers),
        "volumes": lambda role: parts.volumes(settings, role),
        "env": lambda role: parts.workload_variable() if role.workload_api else "",
        "volumeMounts": lambda role: parts.workload_mount() if role.workload_api else "",
    }


def _by_role(name: str, roles: list[Role], part: _Part) -> str:
    """A template whose argument is a role. One that has no such part fails: nothing is left out unseen."""
    given = [(role, text) for role in roles if (text := part(role))]
    cases = "".join(
        f'{{{{- {"else " if index else ""}if eq . "{role.name}" -}}}}\n{_literal(text)}'
        for index, (role, text) in enumerate(given)
    )
    refused = f'{{{{- fail (printf "toposeal.{name}: the topology has none for role %v" .) }}}}\n'
    return _defined(name, f"{cases}{{{{- else }}}}\n{refused}{{{{- end }}}}\n" if cases else refused)


def _defined(name: str, body: str) -> str:
    return f'{{{{- define "toposeal.{name}" -}}}}\n{body}{{{{- end }}}}\n'


def _literal(text: str) -> str:
    """`text` as Helm gives it back: names and labels of the manifests may hold what begins an action."""
    return text.replace("{{", '{{ "{{" }}')


def _chart(injection: Injection) -> str:
    """Named by the topology's version, since that is what a chart of another content has."""
    return f"""apiVersion: v2
name: toposeal
description: What `toposeal inject --helm` gives the pods of {injection.topology.mesh}
type: library
version: {injection.topology.version}.0.0
"""
