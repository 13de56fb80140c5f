"""The schema of what an owner demands of each kind of TEE: platform policies, references, machines. No IO.

The topology and the policy file of `toposeal evidence verify` are both made of these rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from toposeal import limits
from toposeal.topology.gpu import GpuDemand
from toposeal.topology.model import InstanceRegister, Platforms, TdxPolicy, TdxReference
from toposeal.topology.schema import Either, Hex, Integer, ListOf, Object, OneOf, OrAny, Text, Word
from toposeal.topology.snp import (
    ENDORSEMENTS,
    PLATFORM_STATES,
    RELAXATIONS,
    RESTRICTIONS,
    SnpFloors,
    SnpPolicy,
    SnpReference,
)

# Intel's spellings. `Revoked` is never admissible, so it cannot be written.
TCB_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)
INSTANCE = "instance"

_DIGEST = Hex(limits.DIGEST_SIZE)
_REGISTER = OrAny(_DIGEST)
_ADVISORY = Text(re.compile(r"INTEL-(?:SA|DOC)-[0-9]{5}", re.ASCII), "INTEL-SA-nnnnn or INTEL-DOC-nnnnn")
_MODEL = Text(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", re.ASCII), "a model as its certificate names it"
)
_CSP_ID = Text(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", re.ASCII), "a provider as its VLEK certificates name it"
)
_LEVEL = Integer(0, 255)
_LEVELS = {"bl": _LEVEL, "tee": _LEVEL, "snp": _LEVEL, "ucode": _LEVEL}
_KEYS = OrAny(ListOf(_DIGEST, 1, limits.MAX_REFERENCES_PER_ROLE, "key digests"))
_REFUSED, _ADMITTED = "refused", "admitted"
_CRL = ("optional", "required")


def _tdx_policy(tcb_status: Any, advisories: Any, min_tcb_evaluation: int) -> TdxPolicy:
    return TdxPolicy(frozenset(tcb_status), frozenset(advisories), min_tcb_evaluation)


def _instance_register(base: bytes, events: Any) -> InstanceRegister:
    return InstanceRegister(base, frozenset(events))


def _tdx_reference(rtmr0: Any, rtmr1: Any, rtmr2: Any, mrseam: Any, **fields: Any) -> TdxReference:
    seam = None if mrseam is None else frozenset(mrseam)
    return TdxReference(rtmr=(rtmr0, rtmr1, rtmr2), mrseam=seam, **fields)


def _floors(levels: Mapping[str, Integer]) -> Object[SnpFloors]:
    tcb = Object(levels, dict[str, int])
    return Object({"reported": tcb, "committed": tcb, "launch": tcb}, SnpFloors)


def _names(choices: tuple[str, ...], low: int, items: str) -> ListOf[str]:
    return ListOf(OneOf(choices), low, len(choices), items)


def _snp_policy(products: Any, csp_ids: Any, vmpl: int, crl: str, **fields: Any) -> SnpPolicy:
    providers = None if csp_ids is None else frozenset(csp_ids)
    sets = ("endorsements", "admit", "require", "require_platform")
    vectors = ("launch_mitigations", "current_mitigations")
    read: dict[str, Any] = {name: frozenset(fields[name]) for name in sets}
    read |= {name: int.from_bytes(fields[name], "little") for name in vectors}
    read |= {name: fields[name] == _ADMITTED for name in ("lowered_tcb", "provisional_firmware")}
    return SnpPolicy(products=products, csp_ids=providers, vmpl=vmpl, crl=crl == _CRL[1], **read)


def _snp_reference(id_key_digests: Any, author_key_digests: Any, **fields: Any) -> SnpReference:
    keys = [None if each is None else frozenset(each) for each in (id_key_digests, author_key_digests)]
    return SnpReference(id_key_digests=keys[0], author_key_digests=keys[1], **fields)


_NOWHERE: tuple[bytes, ...] = ()


def _platforms(tdx: Any = _NOWHERE, snp: Any = _NOWHERE) -> Platforms:
    """A kind that is left out has no machine; only the word `any` admits every one."""
    sets = [None if listed is None else frozenset(listed) for listed in (tdx, snp)]
    return Platforms(*sets)


def _gpus(count: int, models: Any) -> GpuDemand:
    return GpuDemand(count, frozenset(models))


TDX_POLICY = Object(
    {
        "tcb_status": _names(TCB_STATUSES, 1, "statuses"),
        "advisories": ListOf(_ADVISORY, 0, limits.MAX_ADVISORIES, "advisories"),
        "min_tcb_evaluation": Integer(1, limits.MAX_TCB_EVALUATION),
    },
    _tdx_policy,
)
TDX_REFERENCE = Object(
    {
        "mrtd": _DIGEST,
        "rtmr0": _REGISTER,
        "rtmr1": _REGISTER,
        "rtmr2": _REGISTER,
        "rtmr3": Either(
            Word("any", None),
            Word(INSTANCE, InstanceRegister(bytes(limits.DIGEST_SIZE), frozenset())),
            Object(
                {
                    "base": _DIGEST,
                    "events": ListOf(_DIGEST, 0, limits.MAX_RTMR3_EVENTS, "event digests"),
                },
                _instance_register,
            ),
            _DIGEST,
        ),
        "mrconfigid": _DIGEST,
        "mrowner": _DIGEST,
        "mrownerconfig": _DIGEST,
        "mrseam": OrAny(ListOf(_DIGEST, 1, limits.MAX_SEAM_MODULES, "TDX module digests")),
        "td_attributes": Hex(8),
        "xfam": Hex(8),
    },
    _tdx_reference,
)
SNP_POLICY = Object(
    {
        "endorsements": _names(ENDORSEMENTS, 1, "kinds of key"),
        "csp_ids": OrAny(ListOf(_CSP_ID, 1, limits.MAX_CSP_IDS, "providers")),
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
        "lowered_tcb": OneOf((_REFUSED, _ADMITTED)),
        "provisional_firmware": OneOf((_REFUSED, _ADMITTED)),
        "launch_mitigations": Hex(8),
        "current_mitigations": Hex(8),
        "crl": OneOf(_CRL),
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
TDX_REFERENCES = ListOf(TDX_REFERENCE, 1, limits.MAX_REFERENCES_PER_ROLE, "references")
SNP_REFERENCES = ListOf(SNP_REFERENCE, 1, limits.MAX_REFERENCES_PER_ROLE, "references")
PPIDS = OrAny(ListOf(Hex(16), 1, limits.MAX_PLATFORMS, "PPIDs"))
CHIP_IDS = OrAny(ListOf(Hex(64), 1, limits.MAX_PLATFORMS, "CHIP_IDs"))
PLATFORMS = Object({"tdx": PPIDS, "snp": CHIP_IDS}, _platforms, optional=frozenset({"tdx", "snp"}))
GPU_MODELS = ListOf(_MODEL, 1, limits.MAX_GPUS, "models")
GPUS = Object(
    {
        "count": Integer(1, limits.MAX_GPUS),
        "models": GPU_MODELS,
    },
    _gpus,
)
