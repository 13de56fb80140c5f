"""The TDX module that runs, where its generation is later than that of the one a TD was started under. No IO.

dcap-qvl looks such a module up too, but keeps of it only whether it is revoked or unknown: one that Intel
calls out of date would pass for up to date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.collateral import Collateral
from toposeal.evidence.strict_json import parse_object
from toposeal.evidence.tdx_quote import TdxQuote


@dataclass(frozen=True)
class RunningModule:
    """What Intel says of it, in the words of the TCB info."""

    status: str
    advisories: tuple[str, ...]


def running_module(quote: TdxQuote, collateral: Collateral) -> RunningModule | None:
    """By `quote`, of which everything is verified, and the TCB info that it was verified with. None where the
    module is of the generation of TEE_TCB_SVN, by which the platform was judged.

    Raises EvidenceError(TCB_STATUS) where Intel knows no level of it. Source: Intel PCS, TCB info,
    tdxModuleIdentities; TEE_TCB_SVN2 is its ISVSVN, then its generation.
    """
    running = quote.tee_tcb_svn2
    if not running or running[1] == quote.tee_tcb_svn[1]:
        return None
    identity = module_identity(parse_object(collateral.tcb_info.text, "collateral.tcb_info"), running[1])
    level = level_reached(identity, running[0]) if identity is not None else None
    if level is None:
        expected = "a module that Intel's TCB info has a level for"
        raise EvidenceError.of(Reason.TCB_STATUS, "quote.tee_tcb_svn2", running, expected)
    return RunningModule(level["tcbStatus"], tuple(level.get("advisoryIDs") or ()))


def module_identity(info: dict[str, Any], generation: int) -> Any:
    """The entry of `info`, a parsed TCB info, for modules of `generation`, 1 to 255; None if it has none."""
    name = f"TDX_{generation:02X}"
    return next((each for each in info.get("tdxModuleIdentities", ()) if each["id"].upper() == name), None)


def level_reached(identity: dict[str, Any], isvsvn: int) -> Any:
    """The highest TCB level of `identity`, a module's or an enclave's, that `isvsvn` reaches, or None."""
    reached = [level for level in identity["tcbLevels"] if level["tcb"]["isvsvn"] <= isvsvn]
    return max(reached, key=lambda each: each["tcb"]["isvsvn"], default=None)
