"""What Helm makes of the example with the library chart is what inject makes of it: make helm-test."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.injection import APP, ROOT, identified, injection

from toposeal.kubernetes.helm import library_chart
from toposeal.kubernetes.inject import Injection, inject

EXAMPLE = ROOT / "docs" / "examples" / "helm" / "shop"
HELM = ROOT / "build" / "kubernetes-tools" / "helm"
# One place more in each container, as docs/kubernetes.md says of a role with workload_api.
CONTAINER = """
apiVersion: v1
kind: Pod
metadata:
  name: api
  labels: {app: api, toposeal.dev/role: api}
  {{- if .Values.sealed }}
  annotations:
    {{- include "toposeal.annotations" "api" | nindent 4 }}
  {{- end }}
spec:
  {{- if .Values.sealed }}
  {{- include "toposeal.runtimeClass" "api" | nindent 2 }}
  initContainers:
    {{- include "toposeal.initContainers" "api" | nindent 4 }}
  volumes:
    {{- include "toposeal.volumes" "api" | nindent 4 }}
  {{- end }}
  containers:
    - name: api
      image: api:3
      securityContext: {runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      {{- if .Values.sealed }}
      env:
        {{- include "toposeal.env" "api" | nindent 8 }}
      volumeMounts:
        {{- include "toposeal.volumeMounts" "api" | nindent 8 }}
      {{- end }}
{{- if .Values.sealed }}
{{ include "toposeal.services" . }}
{{- end }}
"""

pytestmark = pytest.mark.skipif(not HELM.exists(), reason="make helm-test builds Helm")

Objects = dict[tuple[str, str], dict[str, Any]]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(HELM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def rendered(chart: Path, *more: str) -> str:
    done = helm("template", "shop", chart, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> Objects:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


def chart_of(folder: Path, values: dict[str, Any] | None = None) -> Path:
    chart = folder / "shop"
    shutil.copytree(EXAMPLE, chart)
    if values is not None:
        (chart / "values.yaml").write_text(json.dumps({"sealed": True, "roles": values}))
    return chart


def sealed(chart: Path, injection_: Injection) -> str:
    """What inject makes of the chart without sidecars; the library is then in the chart."""
    bare = rendered(chart, "--set", "sealed=false")
    place = chart / "charts" / "toposeal"
    shutil.rmtree(place)
    for name, text in library_chart(bare, injection_, {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return inject(bare, injection_, {})


def shop_of_the_tests() -> dict[str, Any]:
    """The shop of the other tests: init containers, a StatefulSet, a register, a role by annotation."""
    found = {}
    for each in yaml.safe_load_all(APP):
        if "template" in each.get("spec", {}):
            pod = {k: v for k, v in each["spec"]["template"]["spec"].items() if k != "runtimeClassName"}
            name, replicas = each["metadata"]["name"], each["spec"]["replicas"]
            found[name] = {"kind": each["kind"], "replicas": replicas, "port": 8080, "pod": pod}
            found[name]["labels"] = {"app": name, "odd": "{{ .Values.sealed }}"}
    return found


@pytest.mark.parametrize("values", [None, shop_of_the_tests()], ids=["example", "tests"])
def test_every_object_is_the_one_that_inject_makes(tmp_path: Path, values: dict[str, Any] | None) -> None:
    chart = chart_of(tmp_path, values)
    ours = objects(sealed(chart, injection(draft=True)))
    theirs = objects(rendered(chart))
    assert theirs == ours and sum("template" in each["spec"] for each in theirs.values()) == 3
    assert ("Service", "toposeal-db") in theirs
    linted = helm("lint", chart)
    assert linted.returncode == 0, linted.stdout


def test_an_identity_goes_where_inject_puts_it(tmp_path: Path) -> None:
    chart = chart_of(tmp_path)
    (chart / "templates" / "workloads.yaml").write_text(CONTAINER)
    by = injection(draft=True, topology=identified("api", at_least=1))
    ours = objects(sealed(chart, by))
    assert objects(rendered(chart)) == ours
    assert ours["Pod", "api"]["spec"]["containers"][0]["env"][0]["name"] == "SPIFFE_ENDPOINT_SOCKET"


def test_without_the_library_or_for_an_unknown_role_nothing_is_rendered(tmp_path: Path) -> None:
    chart = chart_of(tmp_path)
    assert "no template" in helm("template", chart).stderr
    sealed(chart, injection(draft=True))
    assert rendered(chart)
    values = yaml.safe_load((chart / "values.yaml").read_text())
    values["roles"]["cache"] = values["roles"]["db"]
    (chart / "values.yaml").write_text(json.dumps(values))
    done = helm("template", chart)
    assert (done.stdout, done.returncode) == ("", 1)
    assert "toposeal.annotations: the topology has none for role cache" in done.stderr
