"""The daemon's outermost layer: rules before configuration, one exit code for each end, no text of others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.daemon import service
from toposeal.daemon.config import RunConfig
from toposeal.dataplane.firewall import Backend
from toposeal.errors import EvidenceError, Mismatch, PodError, Reason, UsageError
from toposeal.evidence.bundle import Bundle
from toposeal.host import firewall
from toposeal.host.collateral_source import FileSource
from toposeal.verification.model import AppraisalContext, TrustAnchors, VerifiedEvidence

FAULT = Mismatch(Reason.FIREWALL_CHANGED, "rules", "another", "ours")
PLATFORM = service.Platform(TrustAnchors(intel_sgx_root_ca=b"root"))


@pytest.fixture(autouse=True)
def quiet_again() -> Any:
    """`run_pod` silences every logger of the process."""
    yield
    logging.disable(logging.NOTSET)


def test_I2_the_rules_stand_before_the_configuration_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def apply() -> Backend:
        done.append("rules")
        return Backend.NFT

    def load(values: object) -> RunConfig:
        done.append("configuration")
        raise UsageError.of(Reason.USAGE, "role", "nothing", "a value")

    monkeypatch.setattr(firewall, "apply", apply)
    monkeypatch.setattr(service, "load_config", load)
    with pytest.raises(UsageError):
        service.run_pod({}, PLATFORM)
    assert done == ["rules", "configuration"]


def test_F4_libraries_log_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would print tracebacks, and with them what somebody else sent."""
    enabled: list[bool] = []

    def fail() -> Backend:
        enabled.append(logging.getLogger("grpc").isEnabledFor(logging.CRITICAL))
        raise PodError.of(Reason.FIREWALL, "nft", "none", "one")

    assert logging.getLogger("grpc").isEnabledFor(logging.CRITICAL)
    monkeypatch.setattr(firewall, "apply", fail)
    with pytest.raises(PodError):
        service.run_pod({}, PLATFORM)
    assert enabled == [False]


async def fenced() -> Mismatch | None:
    return FAULT


async def stopped() -> Mismatch | None:
    return None


async def refused() -> Mismatch | None:
    raise PodError(FAULT)


async def defective() -> Mismatch | None:
    raise ZeroDivisionError("canary")


async def several() -> Mismatch | None:
    raise ExceptionGroup("tasks", [ZeroDivisionError("canary"), PodError(FAULT)])


async def cancelled() -> Mismatch | None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (stopped, 0, '"event": "stop"'),
        (fenced, 5, ""),  # whoever fenced has said so
        (refused, 5, '"reason": "firewall_changed"'),
        (defective, 5, '"found": "ZeroDivisionError at'),
        (several, 5, '"reason": "firewall_changed"'),
        (cancelled, 5, '"found": "CancelledError'),
    ],
)
def test_S9_every_end_has_a_code_and_a_reason(
    end: Callable[[], Coroutine[Any, Any, Mismatch | None]],
    code: int,
    told: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def go() -> int:
        return await service._outcome(asyncio.create_task(end()))

    assert asyncio.run(go()) == code
    out = capfd.readouterr().out
    assert told in out
    assert out.count("\n") == (told != "")
    assert "canary" not in out


def test_the_end_waits_for_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One may hang in the kernel for a quote, another for a name: `_exit` asks nobody."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    service._exit(5)
    assert codes == [5]


@pytest.mark.parametrize(("clock", "judged_at"), [(500, 1000), (1000, 1000), (5000, 5000)])
def test_O2_evidence_is_never_judged_before_the_topology_was_issued(
    monkeypatch: pytest.MonkeyPatch, clock: int, judged_at: int
) -> None:
    contexts: list[AppraisalContext] = []

    def refuse(*words: Any) -> VerifiedEvidence:
        contexts.append(words[-1])
        raise EvidenceError.of(Reason.QUOTE_FORMAT, "quote", "nothing", "a quote")

    monkeypatch.setattr(service, "appraise", refuse)
    monkeypatch.setattr("time.time", lambda: float(clock))

    class Topology:
        issued_at = 1000

    source = FileSource(Bundle(tdx=(b"collateral",), crls=(b"list",)))
    verify = service.appraiser(PLATFORM, source)
    with pytest.raises(EvidenceError):
        verify(wire_evidence.Evidence(), None, Topology)  # type: ignore[arg-type]
    (context,) = contexts
    assert context == AppraisalContext(PLATFORM.anchors, (b"collateral",), judged_at, (b"list",))
