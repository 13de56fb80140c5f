"""This pod's own evidence: the TEE's report, and beside it what a verifier needs to judge it."""

from __future__ import annotations

import time
from typing import Protocol

from toposeal._wire import evidence_pb2 as wire
from toposeal.daemon.pod_collateral import want_for_own
from toposeal.daemon.runtime_events import RuntimeEvents, demands_instance
from toposeal.errors import PodError, Reason
from toposeal.evidence.auxiliary import gpu_messages
from toposeal.evidence.binding import Binding, Purpose, gpu_binding, gpu_nonce
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host import journal, quote_access
from toposeal.host.collateral_source import CollateralSource
from toposeal.host.endorsements import Endorsed, Endorser
from toposeal.host.quote_access import Interfaces
from toposeal.host.tee_report import TDX_GUEST, QuoteSource, TeeReport
from toposeal.kubernetes.initdata import Initdata
from toposeal.limits import COLLATERAL_WAIT
from toposeal.topology.model import Role


class Gpus(Protocol):
    """The pod's devices. Blocks; raises QuoteSourceError."""

    def collect(self, nonce: bytes, deadline_s: float) -> tuple[GpuEvidence, ...]: ...


class PodEvidence:
    """The node's quotes. The kind of TEE is the source's word: whichever driver answers.

    Like the TEE's driver it answers one request at a time.
    """

    def __init__(
        self,
        quotes: QuoteSource,
        endorser: Endorser,
        gpus: Gpus,
        events: RuntimeEvents,
        interfaces: Interfaces | None = None,
        collateral: CollateralSource | None = None,
        initdata: Initdata | None = None,
    ) -> None:
        """`interfaces` is where quotes may come from besides; without it, everywhere that we know of.

        `initdata`, where the pod was told by it, has to be what every report says was measured.
        """
        self._initdata = initdata
        self._quotes, self._endorser, self._gpus, self._events = quotes, endorser, gpus, events
        self._interfaces, self._collateral = interfaces, collateral
        self._endorsed: dict[tuple[bytes, bytes], Endorsed] = {}

    def check_access(self) -> None:
        """Show that nobody else in the pod can ask for quotes (E16); blocks up to 30 s. Raises PodError."""
        reached = quote_access.check(self._interfaces)
        if reached:
            raise PodError(*reached)

    def prepare(self, iid: bytes, role: Role) -> None:
        """Before the first quote of instance `iid` (48 bytes): put its event into RTMR3 where `role` wants
        it there. Blocks for a moment. Raises PodError.

        A guest without the register goes on: its evidence is SNP's, or none that `role` accepts.
        """
        if not demands_instance(role):
            return
        try:
            self._events.extend(iid)
        except PodError as error:
            if error.reason is not Reason.RTMR_ABSENT:
                raise
            journal.event("rtmr3", state="absent", role=role.name)

    def quote(self, binding: Binding, deadline_s: float) -> wire.Evidence:
        """Evidence that says `binding`; blocks up to `deadline_s` for each of TEE and GPUs.

        Raises QuoteSourceError, EvidenceError where nothing vouches for the report's key, or PodError for
        initdata that this VM was not started with.
        """
        report = self._quotes.report(binding.report_data(), deadline_s)
        self._check_initdata(report)
        evidence = self._tdx(report) if report.provider == TDX_GUEST else self._snp(report)
        if binding.purpose is Purpose.JOIN:
            if self._collateral is not None:
                # We appraise our own evidence before others see it: by what is still on its way, perhaps.
                self._collateral.settle(COLLATERAL_WAIT / 1000)
            bound = gpu_binding(binding.mesh_id, binding.role, binding.iid, binding.anchor)
            evidence.gpus.extend(gpu_messages(self._gpus.collect(gpu_nonce(bound), deadline_s)))
        return evidence

    def _check_initdata(self, report: TeeReport) -> None:
        """Who hands over initdata is not trusted; the hardware, and the driver in our own kernel, are. The
        whole field is compared: a digest that CoCo has cut or padded is none of ours."""
        if self._initdata is None:
            return
        if report.provider == TDX_GUEST:
            field, measured = "mrconfigid", parse_tdx_quote(report.outblob).mrconfigid
        else:
            field, measured = "host_data", parse_snp_report(report.outblob).host_data
        if measured != self._initdata.digest:
            expected = f"{self._initdata.digest.hex()}, {self._initdata.algorithm} of the initdata"
            raise PodError.of(Reason.CONFIG_DIGEST, field, measured, expected)

    def _tdx(self, report: TeeReport) -> wire.Evidence:
        if self._collateral is not None:
            want_for_own(report.outblob, self._collateral)
        return wire.Evidence(tee=wire.TDX, quote=report.outblob, rtmr3_events=self._events.current())

    def _snp(self, report: TeeReport) -> wire.Evidence:
        """The certificate is looked for once for each TCB version: the host may change it under us."""
        parsed = parse_snp_report(report.outblob)
        key = (parsed.reported_tcb, parsed.chip_id)
        if key not in self._endorsed:
            found = self._endorser.find(parsed, report.auxblob, int(time.time()))
            self._endorsed = {key: found}
        endorsed = self._endorsed[key]
        return wire.Evidence(
            tee=wire.SEV_SNP,
            quote=report.outblob,
            endorsement=endorsed.key,
            endorsement_ca=endorsed.ca,
        )
