"""A pod under review becomes the one that inject makes, by additions alone, or is refused and told why."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from support.admission import patched, pods, response, review
from support.injection import identified, injection, topology

from toposeal.errors import Reason, UsageError
from toposeal.kubernetes.admission import answer, json_patch
from toposeal.kubernetes.inject import Injection, inject
from toposeal.limits import MAX_ADMISSION_REVIEW

ROLES = ("web", "api", "db")


def injected(pod: dict[str, Any], by: Injection) -> dict[str, Any]:
    """By the command, of a file with this pod; without the Service."""
    text = yaml.safe_dump({**pod, "metadata": {**pod["metadata"], "name": "x"}}, sort_keys=False)
    made: dict[str, Any] = next(iter(yaml.safe_load_all(inject(text, by, {}))))
    del made["metadata"]["name"]
    return made


def refusal(pod: object, by: Injection | None = None, **request: object) -> str:
    said = response(answer(review(pod, **request), injection() if by is None else by))
    assert said["allowed"] is False and "patch" not in said and said["status"]["code"] == 403
    return str(said["status"]["message"])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("identity", [(), ROLES], ids=["plain", "with an identity"])
def test_a_pod_becomes_the_one_that_inject_makes(role: str, identity: tuple[str, ...]) -> None:
    by = injection(topology=identified(*identity, at_least=1))  # as inject asks of a file with one pod
    pod = pods()[role]
    made = patched(pod, answer(review(pod), by))
    assert made == injected(pod, by) != pod
    assert [each["name"] for each in made["spec"]["initContainers"]][:2] == ["toposeal-lockdown", "toposeal"]


def test_how_many_pods_there_are_of_a_role_is_not_asked() -> None:
    assert topology().roles["api"].min_replicas == 2
    pod = pods()["api"]
    assert patched(pod, answer(review(pod), injection()))["spec"]["runtimeClassName"] == "kata-qemu-tdx"


def test_what_an_api_server_adds_is_left_as_it_is() -> None:
    """Defaults, a service account's volume, null where there is nothing."""
    pod = pods()["web"]
    pod["metadata"] |= {"creationTimestamp": None, "ownerReferences": [{"kind": "ReplicaSet", "uid": "1"}]}
    pod["spec"] |= {"securityContext": {}, "schedulerName": "default-scheduler", "tolerations": []}
    pod["spec"]["volumes"].append({"name": "kube-api-access-1", "projected": {"sources": []}})
    pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["scheme"] = "HTTP"
    pod["status"] = {}
    made = patched(pod, answer(review(pod), injection()))
    assert made["spec"]["volumes"][-2:] == pod["spec"]["volumes"]
    assert made["spec"]["tolerations"] == [] and made["status"] == {} == made["spec"]["securityContext"]


def test_a_pod_that_steps_around_the_sidecar_is_refused_with_every_reason() -> None:
    pod = pods()["web"]
    pod["spec"]["hostNetwork"] = True
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = True
    said = refusal(pod)
    assert "Pod/web- spec.hostNetwork" in said and "privileged" in said


def test_a_digest_that_the_topology_does_not_name_is_refused() -> None:
    by = injection()
    assert "config_digest" in refusal(
        pods()["web"], injection(initdata={**by.initdata, "web": by.initdata["db"]})
    )


@pytest.mark.parametrize("labels", [{}, {"toposeal.dev/role": "cache"}, {"toposeal.dev/role": 7}])
def test_a_pod_of_no_role_is_refused(labels: dict[str, object]) -> None:
    """The configuration sends those with the label alone; what comes all the same is not waved through."""
    pod = pods()["web"]
    pod["metadata"]["labels"] = labels
    assert "one of api, db, web" in refusal(pod)


def test_a_pod_that_has_a_sidecar_is_refused() -> None:
    """Somebody's; also inject's own: in a namespace it is one or the other."""
    pod = pods()["web"]
    made = patched(pod, answer(review(pod), injection()))
    assert "this one is toposeal's" in refusal(made)


@pytest.mark.parametrize("at", ["annotations", "initContainers"])
@pytest.mark.parametrize("value", [None, "text", 1])
def test_what_is_no_mapping_or_list_where_something_goes_is_refused(at: str, value: object) -> None:
    pod = pods()["web"]
    pod["metadata" if at == "annotations" else "spec"][at] = value
    assert at in refusal(pod)


def test_a_probe_of_anything_is_refused_like_any_other() -> None:
    pod = pods()["web"]
    pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = ["/ready"]
    assert "httpGet" in refusal(pod)


def test_an_annotation_that_is_there_is_not_replaced() -> None:
    pod = pods()["web"]
    name = "io.katacontainers.config.hypervisor.cc_init_data"
    pod["metadata"]["annotations"] = {name: "mine"}
    assert name in refusal(pod)


@pytest.mark.parametrize(
    ("pod", "request_", "field"),
    [
        ({"kind": "Deployment", "apiVersion": "apps/v1"}, {}, "object"),
        (None, {}, "object"),
        ({"kind": "Pod", "apiVersion": "v1"}, {}, "spec"),
        ({"kind": "Pod", "apiVersion": "v1"}, {"operation": "UPDATE"}, "operation"),
        ({"kind": "Pod", "apiVersion": "v1"}, {"operation": None}, "operation"),
    ],
)
def test_what_is_no_new_pod_is_refused(pod: object, request_: dict[str, object], field: str) -> None:
    assert field in refusal(pod, None, **request_)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}',
        review({}, uid=""),
        review({}, uid="a\nb"),
        review({}, uid=None),
        review({})[:-1] + b',"kind":"AdmissionReview"}',
    ],
)
def test_what_is_no_review_has_nobody_to_be_answered_to(data: bytes) -> None:
    with pytest.raises(UsageError) as error:
        answer(data, injection())
    assert error.value.reason is Reason.MALFORMED


def test_a_review_is_read_up_to_the_limit() -> None:
    padding = MAX_ADMISSION_REVIEW - len(review(None))
    for more, refused in ((0, False), (1, True)):
        data = review(None) + b" " * (padding + more)
        if refused:
            with pytest.raises(UsageError) as error:
                answer(data, injection())
            assert error.value.reason is Reason.TOO_LARGE
        else:
            assert json.loads(answer(data, injection()))["response"]["allowed"] is False


def test_a_pod_may_be_deeper_than_a_topology() -> None:
    """What the API server notes about who wrote which field is."""
    deep: Any = {}
    for _ in range(30):
        deep = {"f:x": deep}
    pod = pods()["web"]
    pod["metadata"]["managedFields"] = [{"fieldsV1": deep}]
    assert patched(pod, answer(review(pod), injection()))["metadata"]["managedFields"]


def test_names_in_a_patch_are_escaped() -> None:
    before: dict[str, Any] = {"a/b": {"~": [{}]}}
    after = copy.deepcopy(before)
    after["a/b"]["~"][0]["x/~"] = 1
    assert json_patch(before, after) == [{"op": "add", "path": "/a~1b/~0/0/x~1~0", "value": 1}]
