"""The library chart holds what inject writes, for each role its own, and fails for any other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.helm import given, plain, templates
from support.injection import APP, NAMED, identified, injected, injection, topology

from toposeal.errors import UsageError
from toposeal.kubernetes import parts
from toposeal.kubernetes.helm import CHART, library_chart
from toposeal.kubernetes.initdata import ANNOTATION
from toposeal.kubernetes.inject import inject

ROLES = ("web", "api", "db")


def made(text: str = APP, **changes: object) -> dict[str, str]:
    return templates(library_chart(text, injection(**changes), NAMED))


def pods(text: str) -> dict[str, dict[str, Any]]:
    documents = list(yaml.safe_load_all(text))
    return {
        each["metadata"]["name"]: each["spec"]["template"] for each in documents if each["kind"] != "Service"
        and "template" in each.get("spec", {})
    }  # fmt: skip


def test_every_part_is_the_one_that_inject_writes() -> None:
    found = {name: given(body) for name, body in made().items() if name != "services"}
    for role, pod in pods(injected()).items():
        value = yaml.safe_load(found["annotations"][role])
        assert value == {ANNOTATION: pod["metadata"]["annotations"][ANNOTATION]}
        spec = pod["spec"]
        assert yaml.safe_load(found["runtimeClass"][role]) == {"runtimeClassName": spec["runtimeClassName"]}
        for name, count in (("initContainers", 2), ("volumes", 3 + (role == "db"))):
            ours = [each for each in spec[name] if each["name"].startswith("toposeal")]
            assert yaml.safe_load(found[name][role]) == ours and len(ours) == count


def test_the_services_are_those_of_inject() -> None:
    ours = [
        each for each in yaml.safe_load_all(injected()) if each["metadata"]["name"].startswith("toposeal-")
    ]
    assert list(yaml.safe_load_all(plain(made()["services"]))) == ours and len(ours) == len(ROLES)


def test_an_identity_goes_into_the_containers_of_the_roles_that_have_one() -> None:
    found = made(topology=identified("api"))
    pod = pods(inject(APP, injection(topology=identified("api")), NAMED))["api"]
    (container,) = pod["spec"]["containers"]
    assert given(found["env"]) == {"api": parts.workload_variable()}
    assert given(found["volumeMounts"]) == {"api": parts.workload_mount()}
    assert yaml.safe_load(given(found["env"])["api"]) == container["env"]
    assert yaml.safe_load(given(found["volumeMounts"])["api"]) == container["volumeMounts"]


def test_a_role_that_has_no_such_part_fails_whatever_it_is_called() -> None:
    """Nothing would be a pod without a sidecar, and nobody told."""
    for name, body in made().items():
        if name != "services":
            assert body.count("{{- fail ") == 1
            assert (
                body.startswith("{{- fail ")
                if name in ("env", "volumeMounts")
                else "{{- else }}\n{{- fail " in body
            )


def test_what_begins_an_action_of_helm_is_text() -> None:
    """A label that is none; whoever renders the manifests may have written anything."""
    text = APP.replace("{app: web, toposeal.dev/role", '{app: "{{ .Values.x }}", toposeal.dev/role')
    body = made(text)["services"]
    assert '"app": "{{ "{{" }} .Values.x }}"' in body
    assert '"app": "{{ .Values.x }}"' in plain(body)


def test_the_chart_is_a_library_of_the_topologys_version() -> None:
    chart = yaml.safe_load(library_chart(APP, injection(), NAMED)[CHART])
    assert (chart["type"], chart["name"]) == ("library", "toposeal")
    assert chart["version"] == f"{topology().version}.0.0"


def test_what_inject_refuses_is_refused() -> None:
    with pytest.raises(UsageError, match="hostNetwork"):
        library_chart(APP.replace("spec:   # the pod", "spec:\n      hostNetwork: true"), injection(), NAMED)
