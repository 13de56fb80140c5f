"""The policy file of `toposeal evidence verify`: what one piece of evidence has to satisfy. No IO.

The same rules as the topology's, for a platform and its guests without roles. docs/evidence.md is the
reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toposeal import limits
from toposeal.errors import TopologyError
from toposeal.topology import strict_json
from toposeal.topology.model import TdxPolicy, TdxReference
from toposeal.topology.schema import Object, OneOf, OrAny, Rule, mismatch
from toposeal.topology.snp import SnpFloors, SnpPolicy, SnpReference
from toposeal.topology.tee_schema import (
    CHIP_IDS,
    GPU_MODELS,
    PPIDS,
    SNP_POLICY,
    SNP_REFERENCES,
    TDX_POLICY,
    TDX_REFERENCES,
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
class GpuRules:
    """`None` is an explicit `any`."""

    models: frozenset[str] | None
    manifests: bool  # whether measurements have to be compared with signed manifests


@dataclass(frozen=True)
class EvidencePolicy:
    """What is demanded of each kind; None refuses the kind."""

    tdx: TdxDemand | None = None
    snp: SnpDemand | None = None
    gpu: GpuRules | None = None


def _demand(policy: Rule[Any], references: Rule[Any], platforms: Rule[Any], build: Any) -> Object[Any]:
    """A platform policy, the guests that it is for, and the machines: each of the two may be any."""

    def built(policy: Any, references: Any, platforms: Any) -> Any:
        return build(policy, references, None if platforms is None else frozenset(platforms))

    fields = {"policy": policy, "references": OrAny(references), "platforms": platforms}
    return Object(fields, built)


def _gpu_rules(models: Any, measurements: str) -> GpuRules:
    return GpuRules(None if models is None else frozenset(models), measurements == _MANIFESTS)


_MANIFESTS = "manifests"
GPU_RULES = Object({"models": OrAny(GPU_MODELS), "measurements": OneOf(("any", _MANIFESTS))}, _gpu_rules)
EVIDENCE_POLICY = Object(
    {
        "tdx": _demand(TDX_POLICY, TDX_REFERENCES, PPIDS, TdxDemand),
        "snp": _demand(SNP_POLICY, SNP_REFERENCES, CHIP_IDS, SnpDemand),
        "gpu": GPU_RULES,
    },
    EvidencePolicy,
    optional=frozenset({"tdx", "snp", "gpu"}),
)

_LEVELS = ("bl", "tee", "snp", "ucode")
_NO_LEVELS = dict.fromkeys(_LEVELS, 0)
_NO_TURIN_LEVELS = {"fmc": 0, **_NO_LEVELS}

# What is demanded where nobody says anything: a platform that its vendor calls up to date, a guest that
# no host may look into. It knows no measurement, and no level of AMD's firmware: AMD publishes no list.
STRICT = EvidencePolicy(
    tdx=TdxDemand(TdxPolicy(frozenset({"UpToDate"}), frozenset(), 1), None, None),
    snp=SnpDemand(
        SnpPolicy(
            endorsements=frozenset({"VCEK"}),
            csp_ids=None,
            products={
                "Genoa": SnpFloors(_NO_LEVELS, _NO_LEVELS, _NO_LEVELS),
                "Turin": SnpFloors(_NO_TURIN_LEVELS, _NO_TURIN_LEVELS, _NO_TURIN_LEVELS),
            },
            vmpl=0,
            admit=frozenset({"SMT"}),
            require=frozenset(),
            require_platform=frozenset(),
            lowered_tcb=False,
            provisional_firmware=False,
            launch_mitigations=0,
            current_mitigations=0,
            crl=False,
        ),
        None,
        None,
    ),
    gpu=GpuRules(models=None, manifests=False),
)


def parse_evidence_policy(data: bytes) -> EvidencePolicy:
    """The policy that `data` (at most 1 MiB of JSON) declares; a kind that it does not name is refused.

    Raises TopologyError with every mismatch.
    """
    value = strict_json.parse(data, "policy", limits.MAX_TOPOLOGY_SIZE)
    if not isinstance(value, dict):
        raise TopologyError(mismatch("policy", value, EVIDENCE_POLICY.expected))
    return EVIDENCE_POLICY.read(value, "")
