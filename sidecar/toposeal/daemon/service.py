"""One pod from first instruction to last: what is started in which order, and that its end is closed.

The order is the argument: rules, then the peer port, then Envoy with the closed files, then keys and
evidence, and only after the seal the configuration that opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.daemon.config import RunConfig, load_config
from toposeal.daemon.pod import Appraiser, Pod
from toposeal.dataplane.firewall import Backend
from toposeal.errors import Mismatch, Reason, ToposealError
from toposeal.evidence.binding import Binding
from toposeal.host import firewall, journal
from toposeal.host.configfs_tsm import REPORT_DIRECTORY, ConfigfsTsm
from toposeal.host.renderer import Child
from toposeal.verification.appraise import appraise
from toposeal.verification.model import AppraisalContext, TrustAnchors, VerifiedEvidence

FENCED = 5  # exit code: the pod closed itself


@dataclass(frozen=True)
class Platform:
    """What the build, never an argument, decides: whose roots are trusted, where quotes come from."""

    anchors: TrustAnchors
    report_dir: str = REPORT_DIRECTORY


class TdxQuotes:
    """The node's quotes: TDX evidence from configfs-tsm."""

    def __init__(self, report_dir: str) -> None:
        self._tsm = ConfigfsTsm(report_dir)

    def quote(self, binding: Binding, deadline_s: float) -> wire_evidence.Evidence:
        outblob = self._tsm.quote(binding.report_data(), deadline_s)
        return wire_evidence.Evidence(tee=wire_evidence.TDX, quote=outblob)


def run_pod(values: Mapping[str, str], platform: Platform, child: Child | None = None) -> int:
    """Run the pod, after `daemon.entry.enter`, until it is stopped (0) or fenced. The rules are applied
    anew first: whoever started this process as the daemon's user may have forgotten them.
    """
    backend = firewall.apply()
    _exit(asyncio.run(_run(load_config(values), platform, backend, child)))


async def _run(config: RunConfig, platform: Platform, backend: Backend, child: Child | None) -> int:
    journal.event("start", role=config.role, mesh=config.mesh, version=config.topology.topology.version)
    quotes = TdxQuotes(platform.report_dir)
    pod = Pod(config, backend, quotes, appraiser(config, platform), child)
    running = asyncio.create_task(pod.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        mismatch = await running
    except asyncio.CancelledError:
        journal.event("stop")
        return 0
    except ToposealError as error:
        mismatch = error.mismatches[0]
        journal.mismatch("fence", mismatch)
    except BaseExceptionGroup as group:
        mismatch = _cause(group)
        journal.mismatch("fence", mismatch)
    return 0 if mismatch is None else FENCED


def appraiser(config: RunConfig, platform: Platform) -> Appraiser:
    """Verification with this pod's topology, collateral and clock; the clock is never before issued_at."""
    topology = config.topology.topology

    def verify(evidence: wire_evidence.Evidence, binding: Binding) -> VerifiedEvidence:
        now = max(int(time.time()), topology.issued_at)
        context = AppraisalContext(platform.anchors, config.collateral, now)
        return appraise(evidence, binding, topology, context)

    return verify


def _cause(group: BaseExceptionGroup[BaseException]) -> Mismatch:
    """The first refusal in `group`, or that something of ours failed: its type, never its text (F4)."""
    leaves: list[BaseException] = [group]
    while leaves:
        error = leaves.pop(0)
        if isinstance(error, ToposealError):
            return error.mismatches[0]
        if isinstance(error, BaseExceptionGroup):
            leaves += error.exceptions
            continue
        return Mismatch(Reason.INTERNAL, "task", type(error).__name__, "a task that runs")
    return Mismatch(Reason.INTERNAL, "task", "nothing", "a task that runs")


def _exit(code: int) -> NoReturn:
    """At once: a thread may hang in the kernel for a quote, and nothing is left to be saved."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
