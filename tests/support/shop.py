"""The example application as values: three roles, four members, everything fixed."""

from __future__ import annotations

import hashlib
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec

from support.forge import domain_of, pem
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.pki.mint import mint_ca, serial_number
from toposeal.topology.egress import Egress
from toposeal.topology.model import Call, Http, Ingress, Platforms, Probe, Role, Timers, Topology

THEN = 1_767_225_600  # 2026-01-01, so that the golden files stay the same
ATTESTATION_PORT = 8444


def role(
    name: str,
    replicas: int,
    *,
    metrics: int | None = None,
    workload_api: bool = False,
    **edges: tuple[object, ...],
) -> Role:
    return Role(
        name=name,
        min_replicas=replicas,
        max_replicas=replicas,
        tdx=(),
        snp=(),
        platforms=Platforms(None, None),
        gpus=None,
        serves=edges.get("serves", ()),  # type: ignore[arg-type]
        calls=edges.get("calls", ()),  # type: ignore[arg-type]
        ingress=edges.get("ingress", ()),  # type: ignore[arg-type]
        probes=edges.get("probes", ()),  # type: ignore[arg-type]
        egress=edges.get("egress", ()),  # type: ignore[arg-type]
        addresses=edges.get("addresses", ()),  # type: ignore[arg-type]
        http=edges.get("http", ()),  # type: ignore[arg-type]
        proxy_protocol=edges.get("proxy_protocol", ()),  # type: ignore[arg-type]
        metrics=metrics,
        workload_api=workload_api,
    )


def topology(*roles: Role, mesh: str = "shop", attestation_port: int = ATTESTATION_PORT) -> Topology:
    return Topology(
        mesh=mesh,
        version=1,
        issued_at=THEN,
        owner_root_digest=bytes(48),
        attestation_port=attestation_port,
        timers=Timers(),
        tdx=None,
        snp=None,
        roles=MappingProxyType({r.name: r for r in sorted(roles, key=lambda r: r.name)}),
        digest=bytes(48),
    )


def member(role: str, seed: int, *addresses: str, mesh: str = "shop") -> MeshMember:
    """A member whose CA key follows from `seed`."""
    key = ec.derive_private_key(1000 + seed, ec.SECP256R1())
    return MeshMember(
        iid=hashlib.sha384(f"{role}{seed}".encode()).digest(),
        role=role,
        domain=domain_of(key, mesh),
        ca_pem=pem(mint_ca(key, mesh, serial_number(bytes(20)), THEN)),
        addresses=addresses or (f"10.77.0.{seed}",),
    )


SHOP = topology(
    role("web", 1, serves=(8080,), calls=(Call("api", 8080),), ingress=(Ingress(8443, 8080),)),
    role("api", 2, serves=(8080,), calls=(Call("db", 6379),)),
    role("db", 1, serves=(6379,)),
)
MEMBERS = tuple(
    sorted(
        [
            member("web", 11),
            member("api", 12, "10.77.0.12", "fd77::12"),
            member("api", 13),
            member("db", 14),
        ],
        key=lambda m: (m.role, m.iid),
    )
)


def view(role: str, generation: int = 1) -> PodView:
    """The shop as the first member of `role` sees it."""
    own = next(m for m in MEMBERS if m.role == role)
    return PodView(SHOP, own, MEMBERS, generation)


REQUESTS = topology(
    role("web", 1, calls=(Call("api", 8080), Call("api", 9000))),
    role(
        "api",
        2,
        serves=(8080, 9000),
        calls=(Call("api", 8080),),
        ingress=(Ingress(8443, 8080), Ingress(9443, 9000)),
        http=(Http(8080, logs_requests=True),),
    ),
)


def requests_view() -> PodView:
    """An api of two that calls itself, one of whose ports speaks HTTP; its neighbour is bytes."""
    members = (member("api", 12), member("api", 13), member("web", 11))
    return PodView(REQUESTS, members[0], members, 1)


HEADERS = topology(
    role("web", 1, calls=(Call("api", 5432), Call("api", 9000))),
    role(
        "api",
        2,
        serves=(5432, 9000),
        calls=(Call("api", 5432),),
        ingress=(Ingress(8443, 5432), Ingress(9443, 9000)),
        proxy_protocol=(5432,),
    ),
)


def headers_view() -> PodView:
    """An api of two that calls itself, at one of whose ports a PROXY header says who calls."""
    members = (member("api", 12), member("api", 13), member("web", 11))
    return PodView(HEADERS, members[0], members, 1)


CA = pem(mint_ca(ec.derive_private_key(7, ec.SECP256R1()), "elsewhere", serial_number(bytes(20)), THEN))
OUTSIDE = topology(
    role(
        "web",
        1,
        serves=(8080,),
        calls=(Call("db", 5432),),
        egress=(
            Egress(443, host="api.example.com"),
            Egress(5432, host="ledger.corp.example", within=("10.20.0.0/16",), tls_ca=CA),
            Egress(25, cidr="10.77.0.0/24"),
        ),
        probes=(Probe(8080, "/healthz", 8080), Probe(9090, "/live", 9000), Probe(9090, "/ready", 9000)),
        metrics=9464,
    ),
    role("db", 1, serves=(5432,), addresses=("10.96.3.7", "fd00:96::7")),
)


def outside_view() -> PodView:
    """A web that calls what is outside and a role by its Service's addresses, is probed and measured."""
    members = (member("db", 14), member("web", 11))
    resolved = {"api.example.com": ("8.8.8.8", "2606:4700::1"), "ledger.corp.example": ("10.20.0.5",)}
    return PodView(OUTSIDE, members[1], members, 1, resolved)
