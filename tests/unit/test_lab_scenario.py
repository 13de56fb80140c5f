"""The lab's shop is the shop of docs/examples, and the owner's signature on it is a real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal.errors import TopologyError
from toposeal.topology.accept import accept
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot
from toposeal_lab import programs, scenario

SHOP = Path(__file__).resolve().parents[2] / "docs" / "examples" / "shop"
ISSUED = 1_800_000_000


def declared() -> Topology:
    made = scenario.declare(ISSUED, Ed25519PrivateKey.generate())
    return accept(made.envelope, made.owner, scenario.MESH, scenario.VERSION).topology


def manifests(kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((SHOP / "app.yaml").read_text())
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def test_the_declaration_is_accepted_as_signed() -> None:
    topology = declared()
    assert topology.mesh == "shop"
    assert topology.issued_at == ISSUED


def test_another_owner_does_not_accept_it() -> None:
    made = scenario.declare(ISSUED, Ed25519PrivateKey.generate())
    other: OwnerRoot = scenario.declare(ISSUED, Ed25519PrivateKey.generate()).owner
    with pytest.raises(TopologyError):
        accept(made.envelope, other, scenario.MESH, scenario.VERSION)


def test_the_members_are_as_many_as_the_owner_declares() -> None:
    counted = Counter(scenario.MEMBERS.values())
    roles = declared().roles
    assert counted == {name: role.min_replicas for name, role in roles.items()}
    assert counted == {name: role.max_replicas for name, role in roles.items()}


def test_the_example_topology_declares_the_same_application() -> None:
    example = yaml.safe_load((SHOP / "topology.yaml").read_text())
    topology = declared()
    assert example["mesh"] == topology.mesh
    assert example["attestation_port"] == topology.attestation_port
    assert set(example["roles"]) == set(topology.roles)
    for name, role in topology.roles.items():
        shown = example["roles"][name]
        assert shown["replicas"] == {"min": role.min_replicas, "max": role.max_replicas}
        assert tuple(shown["serves"]) == role.serves
        assert [(call["role"], call["port"]) for call in shown["calls"]] == [
            (call.role, call.port) for call in role.calls
        ]
        assert [(entry["port"], entry["target"]) for entry in shown["ingress"]] == [
            (entry.port, entry.target) for entry in role.ingress
        ]


def test_the_example_manifest_runs_the_same_programs() -> None:
    topology = declared()
    deployments, services = manifests("Deployment"), manifests("Service")
    assert set(deployments) == set(services) == set(topology.roles)
    for name, role in topology.roles.items():
        spec = deployments[name]["spec"]
        (container,) = spec["template"]["spec"]["containers"]
        assert spec["replicas"] == role.max_replicas
        assert [port["containerPort"] for port in container["ports"]] == list(role.serves)
        assert [port["port"] for port in services[name]["spec"]["ports"]] == list(role.serves)
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    code = manifests("ConfigMap")["api"]["data"]["shop_api.py"]
    assert code == Path(programs.__file__).with_name("shop_api.py").read_text()
