"""One pod from first instruction to last: what is started in which order, and that its end is closed.

The order is the argument: rules, then the peer port, then Envoy with the closed configuration, then keys and
evidence, and only after the seal the configuration that opens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.daemon.config import RunConfig, load_config
from toposeal.daemon.failure import cause
from toposeal.daemon.pod import Appraiser, Pod
from toposeal.daemon.pod_collateral import open_collateral, want_for_peer
from toposeal.daemon.pod_evidence import PodEvidence
from toposeal.daemon.runtime_events import RuntimeEvents
from toposeal.dataplane.firewall import Backend
from toposeal.errors import EvidenceError, LocalProtocolError, Mismatch, Reason
from toposeal.evidence.binding import Binding
from toposeal.host import firewall, journal
from toposeal.host.collateral_source import CollateralSource
from toposeal.host.configfs_tsm import REPORT_DIRECTORY
from toposeal.host.endorsements import Endorser
from toposeal.host.gpu import GpuSource
from toposeal.host.quote_access import Interfaces
from toposeal.host.quote_sources import quote_source
from toposeal.host.renderer import Child
from toposeal.host.rtmr import FILE, MEASUREMENTS, Rtmr3
from toposeal.host.tasks import watched
from toposeal.host.verdict_cache import VerdictCache
from toposeal.topology.model import Topology
from toposeal.verification.appraise import appraise
from toposeal.verification.model import AppraisalContext, TrustAnchors, VerifiedEvidence

FENCED = 5  # exit code: the pod closed itself
_STOPS = (signal.SIGTERM, signal.SIGINT)
# Meaning nothing here, and by default the end: whoever may send one could end the pod without a reason.
_IGNORED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE)


@dataclass(frozen=True)
class Platform:
    """What the build, never an argument, decides: whose roots are trusted, where the kernel's quotes are."""

    anchors: TrustAnchors
    report_dir: str = REPORT_DIRECTORY
    measurements: str = MEASUREMENTS


def run_pod(values: Mapping[str, str], platform: Platform, child: Child | None = None) -> NoReturn:
    """Run the pod, after `daemon.entry.enter`, until it is stopped (exit code 0) or fenced (FENCED). The
    rules are applied anew first: whoever started this process as the daemon's user may have forgotten them.

    Raises UsageError, TopologyError or PodError for what cannot be started.
    """
    logging.disable()  # libraries print tracebacks, and a traceback may hold anything (F4)
    backend = firewall.apply()
    config = load_config(values)
    asyncio.run(_run(config, platform, backend, child))
    raise LocalProtocolError.of(Reason.INTERNAL, "daemon", "a return", "an exit")


async def _run(config: RunConfig, platform: Platform, backend: Backend, child: Child | None) -> NoReturn:
    journal.event("start", role=config.role, mesh=config.mesh, version=config.topology.topology.version)
    source, endorser = open_collateral(config, platform.anchors)
    quotes = pod_evidence(config, platform, source, endorser)
    pod = Pod(config, backend, quotes, appraiser(platform, source), child, source)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: pod.unhandled(context))
    watched(source.run())
    for number in _STOPS:
        loop.add_signal_handler(number, pod.stop)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    _exit(await _outcome(asyncio.create_task(pod.run())))


async def _outcome(running: asyncio.Task[Mismatch | None]) -> int:
    """The exit code of a pod that has ended; what it could not say itself is said here."""
    await asyncio.wait({running})
    error = asyncio.CancelledError() if running.cancelled() else running.exception()
    if error is not None:
        journal.mismatch("fence", cause(error))
        return FENCED
    if running.result() is not None:
        return FENCED
    journal.event("stop")
    return 0


def pod_evidence(
    config: RunConfig, platform: Platform, source: CollateralSource, endorser: Endorser
) -> PodEvidence:
    """Where this pod's evidence comes from."""
    events = RuntimeEvents(Rtmr3(platform.measurements), config.event_log)
    interfaces = Interfaces(
        report_dir=platform.report_dir, registers=(os.path.join(platform.measurements, FILE),)
    )
    quotes = quote_source(config.quote_source, platform.report_dir)
    return PodEvidence(quotes, endorser, GpuSource(), events, interfaces, source, config.initdata)


def appraiser(platform: Platform, source: CollateralSource) -> Appraiser:
    """Verification with this pod's collateral and clock; the clock is never before issued_at.

    For one thread, since it remembers its verdicts.
    """
    verdicts = VerdictCache(appraise)

    def verify(evidence: wire_evidence.Evidence, binding: Binding, topology: Topology) -> VerifiedEvidence:
        now = max(int(time.time()), topology.issued_at)
        current = source.current()
        context = AppraisalContext(platform.anchors, current.tdx, now, current.crls)
        try:
            return verdicts.appraise(evidence, binding, topology, context)
        except EvidenceError as error:
            if error.reason is Reason.COLLATERAL_MISSING:
                want_for_peer(evidence, source, platform.anchors)
            raise

    return verify


def _exit(code: int) -> NoReturn:
    """At once: a thread may hang in the kernel for a quote or a name, and nothing is left to be saved."""
    os._exit(code)
