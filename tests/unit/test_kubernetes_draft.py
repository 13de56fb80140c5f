"""Topologies drafted from manifests: the golden draft, the example's own, notes, and refusals by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from support.drafting import CLUSTER, GOLDEN, SHOP, by_anybody, by_example, completed, drafted, written

from toposeal.errors import Reason, TopologyError, ToposealError
from toposeal.kubernetes.draft import draft
from toposeal.kubernetes.draft_pods import Blank
from toposeal.kubernetes.draft_text import FILL_IN
from toposeal.kubernetes.manifest import read
from toposeal.limits import MAX_POLICY_PARTS, MAX_ROLES
from toposeal.topology.author import compile_yaml
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology

EXAMPLE = [(SHOP / name).read_text() for name in ("app.yaml", "network.yaml")]


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A Pod with the label app: NAME that listens on 80."""
    containers = [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}]}]
    metadata = {"name": name, "labels": {"app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers, **spec},
    }


def container(**fields: Any) -> dict[str, Any]:
    return pod("a", containers=[{"name": "c", "image": "i", **fields}])


def thing(kind: str, group: str, spec: Any, name: str = "x") -> dict[str, Any]:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}


def service(name: str, selects: str | None, *ports: Any, **spec: Any) -> dict[str, Any]:
    selector = {} if selects is None else {"selector": {"app": selects}}
    return thing("Service", "v1", {**selector, "ports": list(ports), **spec}, name)


def policy(**spec: Any) -> dict[str, Any]:
    return thing("NetworkPolicy", "networking.k8s.io/v1", spec)


def selects(app: str) -> dict[str, Any]:
    return {"matchLabels": {"app": app}}


def scaler(**spec: Any) -> dict[str, Any]:
    return thing("HorizontalPodAutoscaler", "autoscaling/v2", spec)


def ingress(**spec: Any) -> dict[str, Any]:
    return thing("Ingress", "networking.k8s.io/v1", spec)


def text(*objects: Any) -> str:
    return yaml.safe_dump_all(objects)


def role(name: str, *objects: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = drafted(text(*objects)).document["roles"][name]
    return found


def calls(*objects: Any) -> dict[str, list[tuple[str, int]]]:
    """Of a, b and c, each of which serves 80."""
    roles = drafted(text(pod("a"), pod("b"), pod("c"), *objects)).document["roles"]
    return {name: [(call["role"], call["port"]) for call in found["calls"]] for name, found in roles.items()}


def notes(*objects: Any) -> str:
    made = drafted(text(*objects))
    return "\n".join([*made.notes, *(note for told in made.role_notes.values() for note in told)])


def topology(declared: str) -> Topology:
    return parse_topology(compile_yaml(declared.encode(), bytes(48)))


def test_the_golden_draft() -> None:
    assert written(CLUSTER) == GOLDEN.read_text()


def test_a_completed_draft_of_the_example_is_what_its_owner_wrote() -> None:
    by_hand = topology((SHOP / "topology.yaml").read_text())
    made = topology(completed(written(*EXAMPLE), by_example))
    assert replace(made, digest=by_hand.digest) == by_hand


def test_no_blank_may_be_left() -> None:
    whole = written(CLUSTER)
    assert topology(completed(whole, by_anybody))
    blanks = sum(line.partition("#")[0].count(f": {FILL_IN}") for line in whole.splitlines())
    assert blanks > 30
    for left in range(blanks):
        with pytest.raises(TopologyError) as error:
            topology(completed(whole, by_anybody, but=left))
        assert error.value.reason is Reason.TOPOLOGY_INVALID and len(error.value.mismatches) == 1


def test_for_snp_the_fields_are_those_of_snp() -> None:
    made = drafted(text(pod("a")), kind="snp").document
    assert "tdx" not in made and set(made["roles"]["a"]["snp"][0]) > {"measurement", "host_data"}
    assert isinstance(made["snp"]["products"], Blank)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [({}, (1, 1)), ({"replicas": 4}, (4, 4)), ({"replicas": 0}, (0, None))],
)
def test_replicas_are_those_of_the_workload(spec: dict[str, Any], expected: tuple[int, int | None]) -> None:
    other = pod("b")
    one = thing("Deployment", "apps/v1", {"template": pod("a"), **spec}, "a")
    bounds = [None if isinstance(n, Blank) else n for n in role("a", one, other)["replicas"].values()]
    assert tuple(bounds) == expected


def test_of_daemons_and_jobs_the_owner_says_how_many() -> None:
    daemon = thing("DaemonSet", "apps/v1", {"template": pod("a")}, "a")
    assert all(isinstance(bound, Blank) for bound in role("a", daemon)["replicas"].values())
    spec = {"parallelism": 3, "template": pod("a")}
    for job in (
        thing("Job", "batch/v1", spec, "a"),
        thing("CronJob", "batch/v1", {"jobTemplate": {"spec": spec}}, "a"),
    ):
        assert role("a", job)["replicas"]["max"] == 3 and "A job ends" in notes(job)


def test_an_autoscaler_says_the_bounds() -> None:
    one = thing("Deployment", "apps/v1", {"template": pod("a")}, "a")
    target = {"kind": "Deployment", "name": "a"}
    assert role("a", one, scaler(scaleTargetRef=target, maxReplicas=5))["replicas"] == {"min": 1, "max": 5}
    assert "not in these files" in notes(one, scaler(scaleTargetRef={"kind": "X"}, maxReplicas=5))


def test_a_role_is_called_what_others_dial() -> None:
    web = service("web", "a", {"port": 80})
    assert role("web", pod("a"), web) and "--role web=Pod/a" in notes(pod("a"), web)
    assert role("a", pod("a"), web, service("a", "a", {"port": 80}))
    assert "callers dial a" in notes(pod("a"), web, service("a", "a", {"port": 80}))
    assert role("a", pod("a"), web, service("other", "a", {"port": 80}))
    assert role("a", pod("a"), service("-", "a", {"port": 80}))
    labelled = pod("a")
    labelled["metadata"]["annotations"] = {"toposeal.dev/role": "shop"}
    assert role("shop", labelled, web) and "--role" not in notes(labelled, web)


def test_served_are_the_ports_that_a_service_leads_to() -> None:
    ports = [
        {"containerPort": 80, "name": "http"},
        {"containerPort": 81},
        {"containerPort": 82, "protocol": "UDP"},
    ]
    one = container(ports=ports)
    assert role("a", one)["serves"] == [80, 81] and "No Service selects it" in notes(one)
    led = service("a", "a", {"port": 1, "targetPort": "http"}, {"port": 53, "protocol": "UDP"})
    assert role("a", one, led)["serves"] == [80]
    told = notes(one, led)
    assert "turns 1 into 80" in told and "UDP is not carried" in told and "of UDP or SCTP" in told
    assert role("a", one, service("a", "a", {"port": 9}))["serves"] == [9]
    assert "No Service" not in notes(container())


def test_addresses_are_those_that_are_written() -> None:
    both = service("a", "a", {"port": 80}, clusterIP="10.96.0.1", clusterIPs=["10.96.0.1", "fd00::1"])
    assert role("a", pod("a"), both)["addresses"] == ["10.96.0.1", "fd00::1"]
    for nothing in ("None", ""):
        assert "addresses" not in role("a", pod("a"), service("a", "a", {"port": 80}, clusterIP=nothing))
    two = pod("b")
    two["metadata"]["labels"] = {"app": "a"}
    shared = service("both", "a", {"port": 80}, clusterIP="10.96.0.1")
    assert "addresses" not in role("a", pod("a"), two, shared) and "several roles" in notes(
        pod("a"), two, shared
    )
    assert "several roles" not in notes(pod("a"), two, service("both", "a", {"port": 80}))


def test_a_service_that_leads_elsewhere_is_told() -> None:
    assert "Service/x selects no pod" in notes(pod("a"), service("x", "b", {"port": 80}))
    assert "Service/x selects no pod" in notes(pod("a"), service("x", None, {"port": 80}))
    external = service("x", "a", type="ExternalName", externalName="db.example.com")
    assert "leads to db.example.com" in notes(pod("a"), external)


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_a_service_for_outside_clients_is_a_way_in(kind: str) -> None:
    (entry,) = role("a", pod("a"), service("x", "a", {"port": 443, "targetPort": 80}, type=kind))["ingress"]
    assert isinstance(entry["port"], Blank) and entry["target"] == 80


def test_an_ingress_is_a_way_in() -> None:
    web = service("web", "a", {"port": 1, "name": "x", "targetPort": "http"}, {"port": 2, "targetPort": 81})
    named: list[tuple[dict[str, Any], int]] = [({"name": "x"}, 80), ({"number": 2}, 81)]
    for port, target in named:
        backend = {"service": {"name": "web", "port": port}}
        rules = [{"http": {"paths": [{"path": "/", "backend": backend}]}}, {"host": "a.example.com"}]
        specs: list[dict[str, Any]] = [{"rules": rules}, {"defaultBackend": backend}]
        for spec in specs:
            assert [e["target"] for e in role("web", pod("a"), web, ingress(**spec))["ingress"]] == [target]
    others: list[dict[str, Any]] = [
        {"service": {"name": "web", "port": {"number": 3}}},
        {"service": {"name": "y"}},
        {"resource": {}},
    ]
    for backend in others:
        assert "no Service and port" in notes(pod("a"), web, ingress(defaultBackend=backend))


def test_probes_are_those_that_ask_a_path_in_clear() -> None:
    def asked(**get: Any) -> tuple[Any, str]:
        one = container(ports=[{"containerPort": 80, "name": "http"}], readinessProbe={"httpGet": get})
        return role("a", one).get("probes"), notes(one)

    assert asked(port="http", path="/ready")[0] == [{"port": 80, "path": "/ready", "target": 80}]
    assert asked(port=81, scheme="HTTP")[0] == [{"port": 81, "path": "/", "target": 81}]
    hard: list[dict[str, Any]] = [{"path": "/a?b"}, {"scheme": "HTTPS"}, {"host": "x"}, {"httpHeaders": []}]
    for more in hard:
        probes, told = asked(port=80, **more)
        assert probes is None and "containers[0].readinessProbe: only a path" in told
    assert "tcpSocket and grpc" in notes(container(livenessProbe={"grpc": {"port": 80}}))
    assert "hook over the network" in notes(container(lifecycle={"preStop": {"httpGet": {"port": 80}}}))
    assert "hook" not in notes(container(lifecycle={"preStop": {"exec": {"command": ["x"]}}}))


def test_without_policies_no_edge_is_invented() -> None:
    assert calls() == {"a": [], "b": [], "c": []}
    assert notes(pod("a")).count("No NetworkPolicy says who calls port 80") == 1


TO_B: dict[str, Any] = {"podSelector": selects("b"), "policyTypes": ["Ingress"]}
FROM_A = {"podSelector": selects("a"), "policyTypes": ["Egress"]}
PEER_A, PEER_B = {"podSelector": selects("a")}, {"podSelector": selects("b")}


@pytest.mark.parametrize(
    ("policies", "edges"),
    [
        ([policy(**TO_B, ingress=[{"from": [PEER_A]}])], {"a"}),
        ([policy(podSelector=selects("b"), ingress=[{"from": [PEER_A]}])], {"a"}),
        ([policy(**TO_B, ingress=[{"from": [PEER_A], "ports": [{"port": "http"}]}])], {"a"}),
        ([policy(**TO_B, ingress=[{"from": [PEER_A], "ports": [{"protocol": "TCP"}]}])], {"a"}),
        ([policy(**TO_B, ingress=[{"from": [PEER_A], "ports": [{"port": 79, "endPort": 81}]}])], {"a"}),
        ([policy(**TO_B, ingress=[{"from": [PEER_A], "ports": [{"port": 81, "endPort": 90}]}])], set()),
        ([policy(**TO_B, ingress=[{"from": [PEER_A], "ports": [{"port": "other"}]}])], set()),
        ([policy(**TO_B, ingress=[{"from": [PEER_A], "ports": [{"port": 80, "protocol": "UDP"}]}])], set()),
        ([policy(**TO_B, ingress=[{"from": [{"podSelector": {}}]}])], {"a", "b", "c"}),
        (
            [policy(**TO_B, ingress=[{"from": [PEER_A]}, {"from": [{"podSelector": selects("c")}]}])],
            {"a", "c"},
        ),
        ([policy(**TO_B, ingress=[{"from": [{"namespaceSelector": {}, **PEER_A}]}])], set()),
        ([policy(**TO_B, ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])], set()),
        ([policy(**TO_B)], set()),
        ([policy(**TO_B, ingress=[{}])], set()),
        ([policy(**TO_B, egress=[{"to": [PEER_B]}])], set()),
        ([policy(**FROM_A, egress=[{"to": [PEER_B]}])], {"a"}),
        ([policy(podSelector=selects("a"), egress=[{"to": [PEER_B]}])], {"a"}),
        ([policy(**FROM_A, egress=[{"to": [PEER_B]}]), policy(**TO_B)], set()),
        ([policy(**FROM_A, egress=[{"to": [PEER_B]}]), policy(**TO_B, ingress=[{}])], {"a"}),
        ([policy(**FROM_A), policy(**TO_B, ingress=[{"from": [PEER_A]}])], set()),
        ([policy(**FROM_A, egress=[{}]), policy(**TO_B, ingress=[{"from": [PEER_A]}])], {"a"}),
        ([policy(**FROM_A, egress=[{}])], set()),
    ],
)
def test_edges_are_what_policies_say(policies: list[dict[str, Any]], edges: set[str]) -> None:
    named = [{**one, "metadata": {"name": f"p{index}"}} for index, one in enumerate(policies)]
    made = calls(*named)
    assert {name for name, found in made.items() if ("b", 80) in found} == edges
    assert all(call == ("b", 80) for found in made.values() for call in found)


def test_what_a_policy_leaves_open_is_told() -> None:
    def told(**spec: Any) -> str:
        return notes(pod("a"), pod("b"), policy(**spec))

    assert "admits clients by address" in told(
        **TO_B, ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]
    )
    assert "namespaceSelector" in told(**TO_B, ingress=[{"from": [{"namespaceSelector": {}}]}])
    assert "reach everything" in told(**FROM_A, egress=[{}])
    assert "UDP is not carried" in told(**TO_B, ingress=[{"ports": [{"port": 80, "protocol": "UDP"}]}])
    assert "no port that the role serves" in told(
        **TO_B, ingress=[{"from": [PEER_A], "ports": [{"port": 1}]}]
    )
    assert "reach TCP 15443" in told(**TO_B)
    # Whom nobody may call is said: the other role alone has a note.
    assert told(**TO_B).count("No NetworkPolicy says") == 1


def ranges(*blocks: Any, ports: Any = ({"port": 25},)) -> list[tuple[Any, Any]]:
    rule = {"to": [{"ipBlock": block} for block in blocks], "ports": list(ports)}
    entries = role("a", pod("a"), policy(**FROM_A, egress=[rule])).get("egress", [])
    said = [{name: None if isinstance(v, Blank) else v for name, v in entry.items()} for entry in entries]
    return [(entry["cidr"], entry["port"]) for entry in said]


def test_ranges_become_egress() -> None:
    assert ranges({"cidr": "192.0.2.7/24"}) == [("192.0.2.0/24", 25)]
    halves = [{"cidr": "2001:db8::/32"}, {"cidr": "192.0.2.0/25"}, {"cidr": "192.0.2.128/25"}]
    assert ranges(*halves) == [("192.0.2.0/24", 25), ("2001:db8::/32", 25)]
    ports = [{"port": 26}, {"port": 25}, {"port": 53}, {"port": 9, "protocol": "UDP"}]
    assert ranges({"cidr": "192.0.2.0/24"}, ports=ports) == [("192.0.2.0/24", 25), ("192.0.2.0/24", 26)]


def test_exceptions_are_left_out_exactly() -> None:
    assert ranges(
        {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/25", "192.0.2.192/26", "198.51.100.0/24"]}
    ) == [("192.0.2.128/26", 25)]
    assert ranges({"cidr": "192.0.2.0/24", "except": ["192.0.2.0/24"]}) == []
    assert ranges({"cidr": "192.0.2.0/24", "except": ["::/0"]}) == [("192.0.2.0/24", 25)]


def test_what_no_entry_can_say_is_blank() -> None:
    assert ranges({"cidr": "0.0.0.0/0"}) == [(None, 25)]
    several: list[list[dict[str, int]]] = [[], [{}], [{"port": 1, "endPort": 9}]]
    for ports in several:
        assert ranges({"cidr": "192.0.2.0/24"}, ports=ports) == [("192.0.2.0/24", None)]


def test_the_attestation_port_is_one_that_no_role_has() -> None:
    one = container(ports=[{"containerPort": 8444}], readinessProbe={"httpGet": {"port": 8445}})
    assert drafted(text(one)).document["attestation_port"] == 8446


def test_other_kinds_pass_and_other_policies_are_told() -> None:
    others = [None, "text", {"kind": 7}, thing("ConfigMap", "v1", {}), thing("Service", "other/v1", {})]
    told = notes(pod("a"), *others, thing("CiliumNetworkPolicy", "cilium.io/v2", {}))
    assert "CiliumNetworkPolicy/x of cilium.io/v2 is not read" in told and "Service/x of other/v1" in told
    assert "ConfigMap" not in told


def test_what_a_manifest_calls_things_does_not_leave_its_comment() -> None:
    hostile = service("x\nmesh: other\u2028y", "b", {"port": 80})
    whole = written(text(pod("a"), hostile))
    assert whole.count("\nmesh: ") == 1 and "\u2028" not in whole and "x\\u{a}mesh" in whole


@pytest.mark.parametrize("name", ["no", "y", "12", "1e3", "null"])
def test_a_name_that_yaml_reads_as_something_else_is_quoted(name: str) -> None:
    open_to_all = policy(podSelector={}, ingress=[{"from": [{"podSelector": {}}]}])
    whole = completed(written(text(pod(name), open_to_all)), by_anybody)
    assert topology(whole).roles[name].calls[0].role == name


NAMELESS = {**pod("a"), "metadata": {}}
LABELS_DIFFER = pod("a")
LABELS_DIFFER["metadata"] = {"labels": {"toposeal.dev/role": "x"}, "annotations": {"toposeal.dev/role": "y"}}
SECOND = {**pod("b"), "metadata": {"name": "b", "labels": {"toposeal.dev/role": "a"}}}
ELSEWHERE = [{**pod(name), "metadata": {"name": name, "namespace": name}} for name in "ab"]
SAME_NAME = [{**pod("a"), "metadata": {"name": "a", "namespace": namespace}} for namespace in "xy"]
SCALER = scaler(scaleTargetRef={"kind": "Pod", "name": "a"}, maxReplicas=2)
TWO_SCALERS = [SCALER, {**SCALER, "metadata": {"name": "y"}}]
WEB = service("web", "a", {"port": 80})


@pytest.mark.parametrize(
    ("objects", "named"),
    [
        ([], "0 with pods"),
        ([pod(f"r{index}") for index in range(MAX_ROLES + 1)], "257 with pods"),
        ([pod("a", hostNetwork=True)], "spec.hostNetwork"),
        ([thing("Rollout", "argoproj.io/v1", {"template": pod("a")})], "Rollout"),
        ([{"kind": "List", "apiVersion": "v1", "metadata": {"name": "x"}, "items": [policy()]}], "items"),
        ([pod("a"), pod("a")], "Pod/a: found twice"),
        ([pod("a"), SECOND], "role a twice"),
        (ELSEWHERE, "several, a, b"),
        ([NAMELESS], "metadata.name: found nothing"),
        ([pod("A.b")], "a label toposeal.dev/role"),
        ([pod("a-")], "a label toposeal.dev/role"),
        ([pod("a" * 41)], "a label toposeal.dev/role"),
        ([LABELS_DIFFER], "the role that the label says"),
        ([{**pod("a"), "metadata": {"name": "a", "labels": {"n": 1}}}], "metadata.labels"),
        ([container(ports="x")], "containers[0].ports: found x, expected a list"),
        ([container(ports=["x"])], "ports[0]: found x, expected a mapping"),
        ([container(ports=[{}])], "containerPort: found nothing"),
        ([container(ports=[{"containerPort": 70000}])], "containerPort: found 70000"),
        ([container(ports=[{"containerPort": True}])], "containerPort: found True"),
        ([container(ports=[{"containerPort": 80, "name": 1}])], "ports[0].name: found 1, expected text"),
        ([container(ports=[{"containerPort": 15001}])], "roles.a.serves: found 15001"),
        ([container(ports=[{"containerPort": 53}])], "roles.a.serves: found 53"),
        ([container(readinessProbe={"httpGet": {"port": "x"}})], "httpGet.port: found x"),
        ([container(readinessProbe={"httpGet": {"port": 15001}})], "roles.a.probes"),
        ([pod("a"), service("x", "a", {"port": 80, "targetPort": "y"})], "targetPort: found y"),
        ([pod("a"), service("x", "a", {})], "ports[0].port: found nothing"),
        ([pod("a"), service("x", "a", {"port": 80}, type="Other")], "spec.type: found Other"),
        ([pod("a"), service("x", "a", {"port": 80}, clusterIP="127.0.0.1")], "addresses[0]: found 127.0.0.1"),
        ([pod("a"), scaler(scaleTargetRef={"kind": "Pod", "name": "a"})], "maxReplicas: found nothing"),
        (
            [pod("a"), scaler(scaleTargetRef={"kind": "Pod", "name": "a"}, minReplicas=3, maxReplicas=2)],
            "roles.a.replicas.min",
        ),
        (
            [pod("a"), WEB, ingress(defaultBackend={"service": {"name": "web", "port": {"number": "x"}}})],
            "number: found x",
        ),
        ([pod("a"), *TWO_SCALERS], "a workload that nothing else scales"),
        (SAME_NAME, "several, x, y"),
        ([pod("a"), policy(podSelector={"matchLabel": {}})], "podSelector.matchLabel: found matchLabel"),
        ([pod("a"), policy(ingres=[])], "spec.ingres"),
        ([pod("a"), policy(policyTypes=["Other"])], "policyTypes[0]: found Other"),
        ([pod("a"), policy(ingress=[{"form": []}])], "ingress[0].form"),
        ([pod("a"), policy(ingress=[{"from": [{}]}])], "from[0]: found a mapping, expected selectors"),
        ([pod("a"), policy(ingress=[{"from": [{"ipBlock": {}, "podSelector": {}}]}])], "an ipBlock alone"),
        ([pod("a"), policy(ingress=[{"ports": [{"prot": 1}]}])], "ports[0].prot"),
        ([pod("a"), policy(egress=[{"to": [{"ipBlock": {"cidr": "x"}}]}])], "ipBlock.cidr: found x"),
        ([pod("a"), policy(egress=[{"to": [{"ipBlock": {}}]}])], "ipBlock.cidr: found nothing"),
        (
            [
                pod("a"),
                policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": "x"}]}]),
            ],
            "a number: a name means nothing",
        ),
        (
            [pod("a"), policy(egress=[{"to": [{"ipBlock": {"cidr": "::/0", "except": ["::1", "f::"]}}]}])],
            "exceptions that leave at most 64",
        ),
        ([pod("a"), policy(ingress=[{"ports": [{}] * MAX_POLICY_PARTS}])], "rules, peers and ports"),
    ],
)
def test_what_cannot_be_drafted_is_refused_by_name(objects: list[Any], named: str) -> None:
    with pytest.raises(ToposealError) as error:
        drafted(text(*objects))
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("expression", "apps"),
    [
        ({"key": "app", "operator": "In", "values": ["a", "c"]}, {"a", "c"}),
        ({"key": "app", "operator": "NotIn", "values": ["a"]}, {"b", "c"}),
        ({"key": "none", "operator": "NotIn", "values": ["a"]}, {"a", "b", "c"}),
        ({"key": "app", "operator": "Exists"}, {"a", "b", "c"}),
        ({"key": "app", "operator": "DoesNotExist"}, set()),
    ],
)
def test_expressions_select_as_kubernetes_does(expression: dict[str, Any], apps: set[str]) -> None:
    selector = {"podSelector": {"matchExpressions": [expression]}}
    made = calls(policy(**TO_B, ingress=[{"from": [selector]}]))
    assert {name for name, found in made.items() if found} == apps


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ({"operator": "Exists"}, "key: found nothing"),
        ({"key": "a", "operator": "Gt", "values": ["1"]}, "operator: found Gt"),
        ({"key": "a", "operator": "In"}, "values for In and NotIn alone"),
        ({"key": "a", "operator": "Exists", "values": ["x"]}, "values for In and NotIn alone"),
        ({"key": "a", "operator": "In", "values": [1]}, "values[0]: found 1"),
        ({"key": "a", "operator": "Exists", "extra": 1}, "extra"),
    ],
)
def test_an_expression_that_means_nothing_is_refused(expression: dict[str, Any], named: str) -> None:
    with pytest.raises(ToposealError, match=re.escape(named)):
        calls(policy(podSelector={"matchExpressions": [expression]}))


def test_a_merge_key_is_refused() -> None:
    merged = "\nspec: {<<: {containers: []}}\n"
    with pytest.raises(ToposealError, match="merge key"):
        drafted("apiVersion: v1\nkind: Pod\nmetadata: {name: a}" + merged)


@pytest.mark.parametrize("mesh", ["", "A", "a.b", "a" * 41, "x\n"])
def test_a_mesh_has_a_name(mesh: str) -> None:
    with pytest.raises(ToposealError, match="--mesh"):
        draft(read(text(pod("a"))), mesh, "tdx")
