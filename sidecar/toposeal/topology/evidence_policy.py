"""The policy file of `toposeal evidence verify`: what one piece of evidence has to satisfy. No IO.

The same rules as the topology's, for a platform and its guests without roles. docs/evidence.md is the
reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from toposeal import limits
from toposeal.errors import TopologyError
from toposeal.topology import strict_json
from toposeal.topology.model import TdxPolicy, TdxReference
from toposeal.topology.parse import TOPOLOGY
from toposeal.topology.schema import Hex, Integer, ListOf, MapOf, Object, OneOf, OrAny, Rule, mismatch
from toposeal.topology.snp import (
    ENDORSEMENTS,
    PLATFORM_STATES,
    RELAXATIONS,
    RESTRICTIONS,
    SnpFloors,
    SnpPolicy,
    SnpReference,
)


@dataclass(frozen=True)
class TdxDemand:
    """`None` is an explicit `any`: nothing of that kind is compared."""

    policy: TdxPolicy
    references: tuple[TdxReference, ...] | None
    platforms: frozenset[bytes] | None  # PPIDs, 16 bytes each


@dataclass(frozen=True)
class SnpDemand:
    """`None` is an explicit `any`: nothing of that kind is compared."""

    policy: SnpPolicy
    references: tuple[SnpReference, ...] | None
    platforms: frozenset[bytes] | None  # CHIP_IDs, 64 bytes each


@dataclass(frozen=True)
class EvidencePolicy:
    """What is demanded of each kind; None refuses the kind."""

    tdx: TdxDemand | None = None
    snp: SnpDemand | None = None


_LEVEL = Integer(0, 255)
_LEVELS = {"bl": _LEVEL, "tee": _LEVEL, "snp": _LEVEL, "ucode": _LEVEL}
_DIGEST = Hex(limits.DIGEST_SIZE)
_KEYS = OrAny(ListOf(_DIGEST, 1, limits.MAX_REFERENCES_PER_ROLE, "key digests"))
_LOWERED = ("refused", "admitted")


def _floors(levels: Mapping[str, Rule[int]]) -> Object[SnpFloors]:
    tcb = Object(levels, dict[str, int])
    return Object({"reported": tcb, "committed": tcb, "launch": tcb}, SnpFloors)


def _names(choices: tuple[str, ...], low: int, items: str) -> ListOf[str]:
    return ListOf(OneOf(choices), low, len(choices), items)


def _snp_policy(**fields: Any) -> SnpPolicy:
    sets = ("endorsements", "admit", "require", "require_platform")
    vectors = ("launch_mitigations", "current_mitigations")
    read: dict[str, Any] = {name: frozenset(fields[name]) for name in sets}
    read |= {name: int.from_bytes(fields[name], "little") for name in vectors}
    lowered = fields["lowered_tcb"] == _LOWERED[1]
    return SnpPolicy(products=fields["products"], vmpl=fields["vmpl"], lowered_tcb=lowered, **read)


def _snp_reference(id_key_digests: Any, author_key_digests: Any, **fields: Any) -> SnpReference:
    keys = [None if each is None else frozenset(each) for each in (id_key_digests, author_key_digests)]
    return SnpReference(id_key_digests=keys[0], author_key_digests=keys[1], **fields)


SNP_POLICY = Object(
    {
        "endorsements": _names(ENDORSEMENTS, 1, "kinds of key"),
        "products": Object(
            {
                "Milan": _floors(_LEVELS),
                "Genoa": _floors(_LEVELS),
                "Turin": _floors({"fmc": _LEVEL, **_LEVELS}),
            },
            dict[str, SnpFloors],
            optional=frozenset({"Milan", "Genoa", "Turin"}),
        ),
        "vmpl": Integer(0, 3),
        "admit": _names(RELAXATIONS, 0, "guest policy bits"),
        "require": _names(RESTRICTIONS, 0, "guest policy bits"),
        "require_platform": _names(PLATFORM_STATES, 0, "platform states"),
        "lowered_tcb": OneOf(_LOWERED),
        "launch_mitigations": Hex(8),
        "current_mitigations": Hex(8),
    },
    _snp_policy,
)
SNP_REFERENCE = Object(
    {
        "measurement": _DIGEST,
        "host_data": Hex(32),
        "guest_svn": Integer(0, (1 << 32) - 1),
        "family_id": OrAny(Hex(16)),
        "image_id": OrAny(Hex(16)),
        "id_key_digests": _KEYS,
        "author_key_digests": _KEYS,
    },
    _snp_reference,
)

_TDX_POLICY = TOPOLOGY.fields["tdx"]
_ROLE = cast("Object[Any]", cast("MapOf[Any]", TOPOLOGY.fields["roles"]).rule)


def _demand(policy: Rule[Any], references: Rule[Any], platforms: Rule[Any], build: Any) -> Object[Any]:
    """A platform policy, the guests that it is for, and the machines: each of the two may be any."""

    def built(policy: Any, references: Any, platforms: Any) -> Any:
        return build(policy, references, None if platforms is None else frozenset(platforms))

    fields = {"policy": policy, "references": OrAny(references), "platforms": platforms}
    return Object(fields, built)


EVIDENCE_POLICY = Object(
    {
        "tdx": _demand(_TDX_POLICY, _ROLE.fields["tdx"], _ROLE.fields["platforms"], TdxDemand),
        "snp": _demand(
            SNP_POLICY,
            ListOf(SNP_REFERENCE, 1, limits.MAX_REFERENCES_PER_ROLE, "references"),
            OrAny(ListOf(Hex(64), 1, limits.MAX_PLATFORMS, "CHIP_IDs")),
            SnpDemand,
        ),
    },
    EvidencePolicy,
    optional=frozenset({"tdx", "snp"}),
)

_NO_LEVELS = dict.fromkeys(_LEVELS, 0)
_NO_TURIN_LEVELS = {"fmc": 0, **_NO_LEVELS}

# What is demanded where nobody says anything: a platform that its vendor calls up to date, a guest that
# no host may look into. It knows no measurement, and no level of AMD's firmware: AMD publishes no list.
STRICT = EvidencePolicy(
    tdx=TdxDemand(TdxPolicy(frozenset({"UpToDate"}), frozenset(), 1), None, None),
    snp=SnpDemand(
        SnpPolicy(
            endorsements=frozenset({"VCEK"}),
            products={
                "Genoa": SnpFloors(_NO_LEVELS, _NO_LEVELS, _NO_LEVELS),
                "Turin": SnpFloors(_NO_TURIN_LEVELS, _NO_TURIN_LEVELS, _NO_TURIN_LEVELS),
            },
            vmpl=0,
            admit=frozenset({"SMT"}),
            require=frozenset(),
            require_platform=frozenset(),
            lowered_tcb=False,
            launch_mitigations=0,
            current_mitigations=0,
        ),
        None,
        None,
    ),
)


def parse_evidence_policy(data: bytes) -> EvidencePolicy:
    """The policy that `data` (at most 1 MiB of JSON) declares; a kind that it does not name is refused.

    Raises TopologyError with every mismatch.
    """
    value = strict_json.parse(data, "policy", limits.MAX_TOPOLOGY_SIZE)
    if not isinstance(value, dict):
        raise TopologyError(mismatch("policy", value, EVIDENCE_POLICY.expected))
    return EVIDENCE_POLICY.read(value, "")
