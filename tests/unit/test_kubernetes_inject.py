"""Sidecars put into manifests: the golden result, what comes back as it is, and every refusal by field."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from support.injection import (
    APP,
    GOLDEN,
    NAMED,
    SETTINGS,
    identified,
    initdata,
    injected,
    injection,
    topology,
    without_values,
)

from toposeal.cli.run import _DEFAULTS
from toposeal.dataplane.layout import workload_socket
from toposeal.errors import Reason, UsageError
from toposeal.host import privileges
from toposeal.kubernetes import parts
from toposeal.kubernetes.initdata import ANNOTATION, from_annotation
from toposeal.kubernetes.inject import inject, roles_of
from toposeal.kubernetes.manifest import read
from toposeal.kubernetes.workload import workloads

MOUNT = "/run/toposeal/workload"
MEMORY = {"medium": "Memory", "sizeLimit": "1Mi"}
POD = """apiVersion: v1
kind: Pod
metadata:
  name: db
  labels: {app: db}
  annotations:
    toposeal.dev/role: db
spec:
  containers:
  - name: redis
    image: redis:8
    securityContext:
      runAsUser: 999
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
"""


def refused(text: str, named: dict[str, str] | None = None, **changes: object) -> UsageError:
    with pytest.raises(UsageError) as error:
        inject(text, injection(**changes), NAMED if named is None else named)
    return error.value


def pods(text: str) -> dict[str, Any]:
    """Name of each workload to its pod."""
    found = {}
    for document in yaml.safe_load_all(text):
        if document and document["kind"] in ("Pod", "Deployment", "StatefulSet"):
            pod = document if document["kind"] == "Pod" else document["spec"]["template"]
            found[document["metadata"]["name"]] = pod
    return found


def test_the_result_is_the_golden_one() -> None:
    assert without_values(injected()) == GOLDEN.read_text()


def test_nothing_of_the_original_is_changed_or_lost() -> None:
    result = injected().split("\n")
    for line in APP.split("\n"):
        assert line in result
        del result[: result.index(line) + 1]


def test_its_own_result_comes_back_byte_for_byte() -> None:
    assert injected(injected()) == injected()


def test_a_stream_without_pods_comes_back_as_it_is() -> None:
    for text in ("", "# nothing\n", "---\n---\n", "kind: ConfigMap\ndata: {a: &x 1, b: *x}", "[1, 2]\n"):
        assert inject(text, injection(), {}) == text


def test_the_initdata_of_each_role_is_in_its_pods() -> None:
    for name, pod in pods(injected()).items():
        told = from_annotation(pod["metadata"]["annotations"][ANNOTATION].encode())
        assert told == initdata(name) and told.identity.role == name


def test_the_lockdown_is_first_and_the_sidecar_native() -> None:
    for pod in pods(injected()).values():
        lockdown, sidecar, *others = pod["spec"]["initContainers"]
        assert lockdown["command"] == ["toposeal", "firewall", "apply"] and "restartPolicy" not in lockdown
        assert sidecar["restartPolicy"] == "Always" and sidecar["startupProbe"]["httpGet"]["port"] == 8444
        assert [other["name"] for other in others] in ([], ["migrate"])
        assert pod["spec"]["runtimeClassName"] == SETTINGS.runtime_class


def test_the_sidecar_has_the_capabilities_that_the_daemon_keeps_and_no_other() -> None:
    assert {name.lower() for name in parts.CAPABILITIES} == set(privileges.CAPABILITIES)
    for pod in pods(injected()).values():
        lockdown, sidecar, *_ = pod["spec"]["initContainers"]
        for container, added in ((lockdown, ["NET_ADMIN"]), (sidecar, list(parts.CAPABILITIES))):
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"], "add": added}
            assert context["privileged"] is context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True and context["runAsUser"] == 0


def test_F1_keys_are_in_memory_alone_and_E16_only_the_sidecar_asks_for_quotes() -> None:
    for name, pod in pods(injected()).items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes["toposeal-run"]["emptyDir"]["medium"] == "Memory"
        paths = {v["hostPath"]["path"] for v in volumes.values() if "hostPath" in v}
        registers = {"/sys/devices/virtual/misc"} if name == "db" else set()
        assert paths == {"/sys/kernel/config"} | registers
        others = [*pod["spec"]["initContainers"][2:], *pod["spec"]["containers"]]
        for container in [pod["spec"]["initContainers"][0], *others]:
            assert not [m for m in container.get("volumeMounts", ()) if m["name"].startswith("toposeal")]


def test_F2_an_application_that_has_an_identity_is_given_the_way_to_it_and_nothing_else() -> None:
    """In each container of its own; and no other role's pods have any of it."""
    result = inject(APP, injection(topology=identified("api")), NAMED)
    assert inject(result, injection(topology=identified("api")), NAMED) == result
    for name, pod in pods(result).items():
        spec = pod["spec"]
        volumes = [v for v in spec["volumes"] if v["name"] == "toposeal-workload"]
        asks = name == "api"
        assert volumes == ([{"name": "toposeal-workload", "emptyDir": MEMORY}] if asks else [])
        sidecar = [m for m in spec["initContainers"][1]["volumeMounts"] if m["name"] == "toposeal-workload"]
        assert sidecar == ([{"name": "toposeal-workload", "mountPath": MOUNT}] if asks else [])
        for container in [*spec["initContainers"][2:], *spec["containers"]]:
            said = [v for v in container.get("env", ()) if v["name"] == "SPIFFE_ENDPOINT_SOCKET"]
            assert [v["value"] for v in said] == ([f"unix://{MOUNT}/api.sock"] if asks else [])
            if asks:
                mount = {"name": "toposeal-workload", "mountPath": MOUNT, "readOnly": True}
                assert mount in container["volumeMounts"]
    assert f"{MOUNT}/api.sock" == workload_socket(_DEFAULTS["state_dir"])


IDENTIFIED = identified("db")
OWN = "    env:\n    - {name: A, value: b}\n    volumeMounts:\n    - {name: data, mountPath: /data}\n"


@pytest.mark.parametrize("own", ["", OWN, OWN[:35], OWN[35:]], ids=["neither", "both", "env", "mounts"])
@pytest.mark.parametrize("first", ["- name: redis\n    image", "- image"])
def test_lists_of_a_container_are_added_to_or_made(own: str, first: str) -> None:
    """And what was there stays, after what is added."""
    text = POD.replace("- name: redis\n    image", first)
    text = (
        text.replace("securityContext:", "name: redis\n    securityContext:") if first == "- image" else text
    )
    made = inject(text + own, injection(topology=IDENTIFIED), {})
    (container,) = pods(made)["db"]["spec"]["containers"]
    assert [v["name"] for v in container["env"]] == [
        "SPIFFE_ENDPOINT_SOCKET",
        *(["A"] if "env" in own else []),
    ]
    mounts = [m["mountPath"] for m in container["volumeMounts"]]
    assert mounts == [MOUNT, *(["/data"] if "volumeMounts" in own else [])]
    assert inject(made, injection(topology=IDENTIFIED), {}) == made


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ("    env:\n    - {name: SPIFFE_ENDPOINT_SOCKET, value: x}\n", "env[0].name"),
        (
            "    volumeMounts:\n    - {name: d, mountPath: /run/toposeal/workload}\n",
            "volumeMounts[0].mountPath",
        ),
        (
            "    volumeMounts:\n    - {name: d, mountPath: /run/toposeal/workload/a/}\n",
            "volumeMounts[0].mountPath",
        ),
        ("    env: [{name: A, value: b}]\n", "containers.0.env"),
    ],
)
def test_what_an_application_is_told_of_its_identity_is_nobody_elses_to_say(more: str, field: str) -> None:
    error = refused(POD + more, {}, topology=IDENTIFIED)
    assert [m.field.endswith(field) for m in error.mismatches] == [True], str(error)
    inject(POD + more, injection(), {})  # of a role that has none


@pytest.mark.parametrize("containers", ["  - x\n", "  -\n", "    x\n", "  - - x\n", "    a: b\n"])
def test_what_is_no_list_of_containers_is_taken_or_refused(containers: str) -> None:
    text = POD.partition("  - name: redis")[0] + containers
    try:
        assert "toposeal-lockdown" in inject(text, injection(topology=IDENTIFIED), {})
    except UsageError as error:
        assert error.reason is Reason.MANIFEST_REFUSED


def test_a_container_in_braces_is_refused_where_something_goes_into_it() -> None:
    security = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"
    braces = f"  - {{name: b, image: b, securityContext: {security}}}\n"
    assert refused(POD + braces, {}, topology=IDENTIFIED).mismatches[0].field.endswith("spec.containers.1")
    inject(POD + braces, injection(), {})


def test_members_find_each_other_before_they_are_ready() -> None:
    services = [d for d in yaml.safe_load_all(injected()) if d["metadata"]["name"].startswith("toposeal-")]
    assert {s["metadata"]["name"] for s in services} == {"toposeal-web", "toposeal-api", "toposeal-db"}
    for service in services:
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
        pod = pods(injected())[service["metadata"]["name"].removeprefix("toposeal-")]
        assert service["spec"]["selector"] == pod["metadata"]["labels"]


@pytest.mark.parametrize("kind", ["Job", "CronJob", "DaemonSet"])
def test_jobs_and_daemon_sets_are_injected_too(kind: str) -> None:
    pod = "".join(f"  {line}\n" for line in POD.split("metadata:")[1].splitlines() if "name: db" not in line)
    head = f"kind: {kind}\nmetadata: {{name: db}}\nspec:\n"
    template = f"  template:\n    metadata:\n{_deeper(pod, 2)}"
    if kind == "CronJob":
        text = f"apiVersion: batch/v1\n{head}  jobTemplate:\n    spec:\n{_deeper(template, 4)}"
    else:
        text = f"apiVersion: {'apps/v1' if kind == 'DaemonSet' else 'batch/v1'}\n{head}{template}"
    result = inject(text, injection(), {})
    assert result.count("restartPolicy: Always") == 1 and inject(result, injection(), {}) == result


def _deeper(text: str, columns: int) -> str:
    return "".join(f"{' ' * columns}{line}\n" for line in text.splitlines() if line.strip())


# What a pod may not have: a change of POD, and the field that the refusal has to name.
POD_CHANGES = [
    ("spec:", "spec:\n  hostNetwork: true", "hostNetwork"),
    ("spec:", "spec:\n  hostPID: yes", "hostPID"),
    ("spec:", "spec:\n  hostIPC: true", "hostIPC"),
    ("spec:", "spec:\n  shareProcessNamespace: true", "shareProcessNamespace"),
    ("spec:", "spec:\n  ephemeralContainers: []", "ephemeralContainers"),
    ("spec:", "spec:\n  securityContext: {runAsUser: 1337}", "spec.securityContext.runAsUser"),
    ("spec:", "spec:\n  os: {name: windows}", "os.name"),
    ("spec:", "spec:\n  runtimeClassName: runc", "runtimeClassName"),
    ("spec:", "spec:\n  volumes:\n  - {name: a, hostPath: {path: /dev}}", "volumes[0].hostPath"),
    ("spec:", "spec:\n  volumes:\n  - {name: toposeal-run, emptyDir: {}}", "volumes[0].name"),
    ("runAsUser: 999", "runAsUser: 1337", "securityContext.runAsUser"),
    ("runAsUser: 999", "runAsUser: 1338", "securityContext.runAsUser"),
    ("runAsUser: 999", "runAsUser: 1339", "securityContext.runAsUser"),
    ("runAsUser: 999", "runAsGroup: 1337", "securityContext.runAsGroup"),
    ("runAsUser: 999", "privileged: true", "securityContext.privileged"),
    ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"),
    ("      allowPrivilegeEscalation: false\n", "", "allowPrivilegeEscalation"),
    ("{drop: [ALL]}", "{drop: [ALL], add: [NET_ADMIN]}", "capabilities.add"),
    ("{drop: [ALL]}", "{drop: [ALL], add: [CAP_NET_RAW]}", "capabilities.add"),
    ("{drop: [ALL]}", "{drop: [ALL], add: [setuid]}", "capabilities.add"),
    ("{drop: [ALL]}", "{drop: [ALL], add: [SYS_ADMIN]}", "capabilities.add"),
    ("{drop: [ALL]}", "{drop: [ALL], add: [ALL]}", "capabilities.add"),
    ("{drop: [ALL]}", "{drop: [NET_RAW]}", "capabilities.drop"),
    ("capabilities: {drop: [ALL]}", "seccompProfile: {type: RuntimeDefault}", "capabilities.drop"),
    ("name: redis\n", "name: toposeal\n", "containers[toposeal].name"),
    ("name: redis\n", "name: istio-proxy\n", "containers[istio-proxy].name"),
    ("image: redis:8", "image: r\n    ports: [{containerPort: 15001}]", "ports[0].containerPort"),
    ("image: redis:8", "image: r\n    ports: [{containerPort: 53}]", "ports[0].containerPort"),
    ("image: redis:8", "image: r\n    ports: [{containerPort: 8444}]", "ports[0].containerPort"),
    ("image: redis:8", "image: r\n    livenessProbe: {tcpSocket: {port: 1}}", "livenessProbe.tcpSocket"),
    ("image: redis:8", "image: r\n    startupProbe: {grpc: {port: 1}}", "startupProbe.grpc"),
    ("image: redis:8", "image: r\n    readinessProbe: {httpGet: {port: 1}}", "readinessProbe.httpGet"),
    (
        "image: redis:8",
        "image: r\n    lifecycle: {preStop: {httpGet: {port: 1}}}",
        "lifecycle.preStop.httpGet",
    ),
    ("kind: Pod", "kind: PodTemplate", "kind"),
    ("apiVersion: v1", "apiVersion: v2", "kind"),
    ("  labels: {app: db}\n", "", "metadata.labels"),
    ("toposeal.dev/role: db", "toposeal.dev/role: cache", "metadata"),
    ("toposeal.dev/role: db", "team: db", "metadata"),
    ("labels: {app: db}", "labels: {app: db, toposeal.dev/role: web}", "metadata"),
    ("annotations:", f"annotations:\n    {ANNOTATION}: x", f"annotations.{ANNOTATION}"),
]


@pytest.mark.parametrize(
    ("old", "new", "field"), POD_CHANGES, ids=[c[2] + str(n) for n, c in enumerate(POD_CHANGES)]
)
def test_I3_a_pod_that_steps_around_the_sidecar_is_refused_by_field(old: str, new: str, field: str) -> None:
    assert inject(POD, injection(), {}) != POD and old in POD
    error = refused(POD.replace(old, new, 1), {})
    assert error.reason is Reason.MANIFEST_REFUSED
    found = error.mismatches[0].field
    assert found.startswith(("Pod", "PodTemplate")) and found.endswith(field), str(error)


def test_a_container_at_the_metrics_port_of_its_role_is_refused() -> None:
    """What is asked there is answered by the sidecar."""
    text = POD.replace("image: redis:8", "image: r\n    ports: [{containerPort: 9464}]")
    inject(text, injection(), {})
    roles = {name: replace(role, metrics=9464) for name, role in topology().roles.items()}
    error = refused(text, {}, topology=replace(topology(), roles=roles))
    assert [m.field.endswith("ports[0].containerPort") for m in error.mismatches] == [True]


def test_init_containers_are_held_to_the_same() -> None:
    error = refused(
        APP.replace(
            "image: api:3\n                    securityContext: {runAsUser: 1000",
            "image: api:3\n                    securityContext: {runAsUser: 1337",
            1,
        )
    )
    assert "initContainers[migrate].securityContext.runAsUser" in error.mismatches[0].field


def test_everything_that_is_wrong_is_named_at_once() -> None:
    error = refused(POD.replace("runAsUser: 999", "runAsUser: 1337\n      privileged: true"), {})
    assert len(error.mismatches) == 2


@pytest.mark.parametrize(
    ("old", "new", "reason", "field"),
    [
        ("replicas: 2", "replicas: 3", Reason.MANIFEST_REFUSED, "Deployment/api spec.replicas"),
        (
            "  replicas: 1\n  selector:\n    matchLabels: {app: db}",
            "  replicas: 2",
            Reason.MANIFEST_REFUSED,
            "spec.replicas",
        ),
        ("toposeal.dev/role: db", "toposeal.dev/role: web", Reason.MANIFEST_REFUSED, "Deployment/web"),
        ("path: /ready", "path: /other", Reason.MANIFEST_REFUSED, "readinessProbe.httpGet"),
        ("port: http, ", "port: http, scheme: HTTPS, ", Reason.MANIFEST_REFUSED, "readinessProbe.httpGet"),
        (
            "runtimeClassName: kata-qemu-tdx",
            "runtimeClassName: kata",
            Reason.MANIFEST_REFUSED,
            "runtimeClassName",
        ),
    ],
)
def test_manifests_that_do_not_match_the_topology_are_refused(
    old: str, new: str, reason: Reason, field: str
) -> None:
    assert old in APP
    error = refused(APP.replace(old, new, 1))
    assert error.reason is reason and field in error.mismatches[0].field, str(error)


def test_pods_that_are_started_one_after_the_other_would_wait_for_ever() -> None:
    error = refused(
        APP.replace("serviceName: db\n  replicas: 1", "serviceName: db\n  replicas: 2"), draft=True
    )
    assert error.mismatches[0].field == "StatefulSet/db spec.replicas"
    ordered = APP.replace(
        "kind: Deployment\nmetadata:\n    name: api", "kind: StatefulSet\nmetadata:\n    name: api"
    )
    error = refused(ordered, {"StatefulSet/api": "api"})
    assert error.mismatches[0].field == "StatefulSet/api spec.podManagementPolicy"


def test_E5_a_digest_that_the_topology_does_not_name_is_refused_unless_it_is_a_draft() -> None:
    made = {name: initdata(name, **{"policy.rego": "package agent_policy\n"}) for name in topology().roles}
    error = refused(APP, initdata=made)
    assert error.reason is Reason.CONFIG_DIGEST and made["web"].digest.hex() in error.mismatches[0].expected
    assert error.mismatches[0].field == "roles.web.tdx[].mrconfigid"
    assert "toposeal-lockdown" in inject(APP, injection(initdata=made, draft=True), NAMED)
    snp = {name: initdata(name, "snp") for name in topology().roles}
    assert refused(APP, initdata=snp, kind="snp").mismatches[0].field == "roles.web.snp[].host_data"


def test_a_role_for_no_document_is_a_mistake() -> None:
    assert refused(APP, {**NAMED, "Deployment/other": "web"}).mismatches[0].field == "--role Deployment/other"
    assert roles_of(APP, topology(), NAMED) == ["api", "db", "web"]


def test_two_words_about_a_role_have_to_agree() -> None:
    assert inject(POD, injection(), {"Pod/db": "db"})
    assert refused(POD, {"Pod/db": "web"}).reason is Reason.MANIFEST_REFUSED


ALTERED = [
    ("runAsNonRoot: false", "runAsNonRoot: true"),
    ("drop: [ALL], add: [NET_ADMIN]", "drop: [], add: [NET_ADMIN]"),
    ("# toposeal inject: end\n", ""),
    ("# toposeal inject: begin. Not to be edited: the original file is.\n", ""),
    ("publishNotReadyAddresses: true", "publishNotReadyAddresses: false"),
    ("      # nginx alone\n", "      # toposeal inject: end\n"),
]


@pytest.mark.parametrize(("old", "new"), ALTERED)
def test_an_altered_injected_part_is_refused(old: str, new: str) -> None:
    result = injected()
    assert old in result
    assert refused(result.replace(old, new, 1)).reason is Reason.MANIFEST_REFUSED


def test_what_other_arguments_or_another_version_injected_is_refused() -> None:
    result = injected()
    other = parts.Settings("other:1", SETTINGS.runtime_class, SETTINGS.config_map)
    assert refused(result, settings=other).reason is Reason.MANIFEST_REFUSED


def test_without_the_marks_the_injected_parts_are_strangers() -> None:
    plain = re.sub(r"^ *# toposeal inject.*\n", "", injected(), flags=re.MULTILINE)
    assert refused(plain).reason is Reason.MANIFEST_REFUSED


def test_around_the_injected_parts_one_may_edit() -> None:
    edited = injected().replace("redis:8", "redis:8.2").replace("# nginx alone", "# nginx")
    assert injected(edited) == edited


def test_a_last_line_without_an_end_gets_one() -> None:
    result = inject(POD.removesuffix("\n"), injection(), {})
    assert result == inject(POD, injection(), {}) == inject(result, injection(), {})


def test_a_pod_that_has_a_place_for_everything_gets_nothing_twice() -> None:
    extra = "spec:\n  runtimeClassName: kata-qemu-tdx\n  volumes:\n  - {name: a, emptyDir: {}}\n"
    extra += "  initContainers:\n"
    container = POD.split("containers:\n")[1].replace("redis\n", "first\n")
    text = POD.replace("spec:\n", extra + container)
    result = inject(text, injection(), {})
    assert (
        result.count("initContainers:") == result.count("volumes:") == result.count("runtimeClassName:") == 1
    )
    assert inject(result, injection(), {}) == result


def test_a_merge_in_a_pods_document_is_refused() -> None:
    merged = POD.replace("      runAsUser: 999\n", "      <<: {runAsUser: 999}\n")
    assert "merge" in refused(merged, {}).mismatches[0].found


def test_a_role_that_no_service_could_be_named_after_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        workloads(read(POD), {"Pod/db": "db-"}, ["db-"])
    assert error.value.reason is Reason.MANIFEST_REFUSED
    with pytest.raises(UsageError) as error:
        workloads(read(POD.replace("role: db", "role: db-")), {}, ["db-"])
    assert error.value.mismatches[0].found == "db-"


def test_a_pod_without_a_specification_is_refused() -> None:
    assert refused("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", {}).mismatches[0].field == "Pod/a spec"
