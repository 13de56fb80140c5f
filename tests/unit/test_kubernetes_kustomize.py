"""The component for kustomize is what inject writes, and initdata is given to each role's pods alone."""

from __future__ import annotations

import pytest
import yaml
from support.injection import SETTINGS, identified, injection, labelled, topology
from support.kustomize import COMPONENT, MEMBERS, patch, pod_patch

from toposeal.errors import UsageError
from toposeal.kubernetes import parts
from toposeal.kubernetes.initdata import ANNOTATION, from_annotation
from toposeal.kubernetes.inject import inject
from toposeal.kubernetes.kustomize import initdata_component
from toposeal.limits import PEER_PORT


def test_the_component_is_what_the_renderer_makes() -> None:
    """tests/support/kustomize.py writes it anew."""
    assert (COMPONENT / "pod.yaml").read_text() == patch()


def test_a_patch_is_inject_but_for_the_names_of_members() -> None:
    for role in topology().roles.values():
        template = yaml.safe_load(pod_patch(SETTINGS, topology(), role))["spec"]["template"]
        names = (parts.service_name(name) for name in topology().roles)
        ours = yaml.safe_load(parts.init_containers(SETTINGS, topology(), role, names))
        assert ours[1]["command"][-1] == "--peers=toposeal-api:15443,toposeal-db:15443,toposeal-web:15443"
        ours[1]["command"][-1] = f"--peers={MEMBERS}:{PEER_PORT}"
        assert template["spec"] == {
            "initContainers": ours,
            "volumes": yaml.safe_load(parts.volumes(SETTINGS, role)),
        }


def test_the_service_finds_the_pods_that_the_patch_marks() -> None:
    service = yaml.safe_load((COMPONENT / "service.yaml").read_text())
    marked = yaml.safe_load(patch())["spec"]["template"]["metadata"]["labels"]
    own = yaml.safe_load(parts.service("web", None, marked))
    assert service == {**own, "metadata": {"name": MEMBERS}}


def test_each_role_has_its_own_initdata() -> None:
    component = yaml.safe_load(initdata_component(labelled(), injection(), {}))
    assert component["kind"] == "Component" and len(component["patches"]) == len(topology().roles)
    for each in component["patches"]:
        role = each["target"]["labelSelector"].removeprefix("toposeal.dev/role=")
        (value,) = yaml.safe_load(each["patch"])["spec"]["template"]["metadata"]["annotations"].items()
        assert value[0] == ANNOTATION and from_annotation(value[1].encode()).identity.role == role


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  labels:\n    toposeal.dev/role: web\n", ""),
        ("labels:\n    toposeal.dev/role: web\n", "labels:\n    toposeal.dev/role: db\n"),
        ("    toposeal.dev/rtmr3: instance\n", ""),
    ],
)
def test_a_workload_that_no_component_would_select_is_refused(old: str, new: str) -> None:
    """It would run without a sidecar, or without the register."""
    text = labelled().replace(old, new, 1)
    assert text != labelled()
    with pytest.raises(UsageError, match="labels"):
        initdata_component(text, injection(), {})


def test_a_role_whose_application_has_an_identity_is_refused() -> None:
    """A component cannot reach into containers that it does not know: the application would have none."""
    with pytest.raises(UsageError, match="workload_api"):
        initdata_component(labelled(), injection(topology=identified("api")), {})


def test_a_pod_that_is_elsewhere_in_its_document_is_refused() -> None:
    pod = """apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {toposeal.dev/role: web}
spec:
  containers:
  - name: web
    image: nginx
    securityContext: {runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""
    assert inject(pod, injection(), {})
    with pytest.raises(UsageError, match="kind"):
        initdata_component(pod, injection(), {})
