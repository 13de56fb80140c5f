"""`toposeal-lab bench evidence`: what verification costs beside the signature checks that it consists of.

Both sides run in one process, on the same bytes, in alternating order, without a memory of verdicts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dcap_qvl  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.evidence import amd_x509, certificates, collateral, pck, snp_certs
from toposeal.evidence.binding import Binding, Purpose, Status
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.rtmr import extend, instance_event
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.host.verdict_cache import VerdictCache
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology
from toposeal.verification import snp_authentic, snp_policy
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.appraise import appraise
from toposeal.verification.model import AppraisalContext
from toposeal.verification.report_data import expect_report_data
from toposeal_lab.checks import CheckFailed
from toposeal_lab.samples import POLICY, Sample, genuine, simulated_snp, simulated_tdx
from toposeal_lab.scenario import MESH, declare
from toposeal_lab.simtdx import LabHost, LabPki, lab_measurements

Result = dict[str, Any]
Work = Callable[[], object]

_ROUNDS = 300
_APPRAISALS = 1000
_TICK_S = 0.001
_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
_PARSERS = (
    certificates._certificate,
    collateral.parse_collateral,
    pck.parse_pck_chain,
    amd_x509.parse_amd_certificate,
    amd_x509.parse_amd_crl,
    snp_certs.parse_endorsement,
)


def bench_evidence(args: argparse.Namespace) -> Result:
    """Microseconds: median, and the distance between the quartiles; ratios of pairs, median."""
    samples = {sample.name: sample for sample in genuine()}
    tdx = samples.get("v4-phala-b0c06f collateral-2025-06") or simulated_tdx()
    snp = samples.get("v3-genoa") or simulated_snp(Product.GENOA)
    question = _question()
    return {
        "tdx": _beside(tdx, "tdx", tdx.verify, _bare_tdx(tdx), _bare_tdx_parsing(tdx)),
        "snp": _beside(snp, "snp", _prepared_snp(snp), _bare_snp(snp), _bare_snp_parsing(snp)),
        "repeat_us": round(_microseconds(_repeat(question), _ROUNDS)[1], 1),
        "event_loop": asyncio.run(_stalls(question)),
        "start": _starts(tdx, snp),
    }


def _beside(sample: Sample, name: str, ours: Work, bare: Work, bare_parsing: Work) -> Result:
    """Our whole verification beside the bare checks: all parsed beforehand, then nothing."""

    def unprepared() -> object:
        forget_parsed()
        return sample.verify()

    if not sample.verify().acceptable:
        raise CheckFailed(f"{sample.name} is not acceptable: a refusal is no measure")
    return {
        "input": sample.name,
        "parsed_beforehand": _compare(ours, bare, f"{name}_ratio"),
        "parsed_each_time": _compare(unprepared, bare_parsing, f"{name}_unprepared_ratio"),
    }


def forget_parsed() -> None:
    """The next verdict parses its certificates and collateral itself."""
    for parser in _PARSERS:
        parser.cache_clear()


def _prepared_snp(sample: Sample) -> Work:
    """All of `evidence_check.judge`, with certificates and list parsed beforehand."""
    parsed, demand = _endorsements(sample), POLICY.snp
    if demand is None:
        raise CheckFailed("the policy admits no SNP report")

    def verify() -> None:
        report = parse_snp_report(sample.data)
        expect_report_data(report.report_data, sample.report_data, "report_data")
        snp_policy.refuse_unsafe_guest(report)
        found = snp_authentic.authenticate(report, parsed, sample.anchors, sample.now)
        snp_policy.require_platform(found, demand.policy)
        snp_policy.require_chip(found, demand.platforms)

    return verify


def _compare(ours: Work, bare: Work, ratio: str) -> Result:
    """Pairs in alternating order, so that whatever else the machine does hits both."""
    ours_ns: list[int] = []
    bare_ns: list[int] = []
    for _ in range(_ROUNDS // 2):
        ours_ns.append(_once(ours))
        bare_ns.append(_once(bare))
        bare_ns.append(_once(bare))
        ours_ns.append(_once(ours))
    ratios = [mine / theirs for mine, theirs in zip(ours_ns, bare_ns, strict=True)]
    return {
        "ours_us": _spread(ours_ns),
        "bare_us": _spread(bare_ns),
        ratio: round(statistics.median(ratios), 3),
    }


def _spread(durations_ns: Sequence[int]) -> str:
    first, middle, third = statistics.quantiles(durations_ns, n=4)
    return f"{middle / 1000:.0f} +- {(third - first) / 2000:.0f}"


def _once(work: Work) -> int:
    started = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started


def _microseconds(work: Work, rounds: int) -> list[float]:
    """Quartile, median, quartile."""
    return [each / 1000 for each in statistics.quantiles([_once(work) for _ in range(rounds)], n=4)]


def _bare_tdx(sample: Sample) -> Work:
    parsed = dcap_qvl.QuoteCollateralV3.from_json(sample.supplied.collateral[0].decode())
    root = sample.anchors.intel_sgx_root_ca
    return lambda: dcap_qvl.verify_with_root_ca(sample.data, parsed, root, sample.now)


def _bare_tdx_parsing(sample: Sample) -> Work:
    text, root = sample.supplied.collateral[0].decode(), sample.anchors.intel_sgx_root_ca

    def verify() -> object:
        parsed = dcap_qvl.QuoteCollateralV3.from_json(text)
        return dcap_qvl.verify_with_root_ca(sample.data, parsed, root, sample.now)

    return verify


def _bare_snp(sample: Sample) -> Work:
    """Leaf by CA, CA by root, root by itself, the list by the root if there is one, the report by the leaf:
    exactly the signatures that verification checks."""
    parsed = _endorsements(sample)
    issued = [(parsed.ca, parsed.key.certificate), (parsed.root, parsed.ca), (parsed.root, parsed.root)]
    checks = [(issuer.public_key, each.signature, each.signed) for issuer, each in issued]
    if parsed.crl is not None:
        checks.append((parsed.root.public_key, parsed.crl.signature, parsed.crl.signed))
    report = parse_snp_report(sample.data)
    signature = utils.encode_dss_signature(report.signature_r, report.signature_s)

    def verify() -> None:
        for key, signed_with, signed in checks:
            if not isinstance(key, rsa.RSAPublicKey):
                raise TypeError("AMD's authorities sign with RSA")
            key.verify(signed_with, signed, _PSS, hashes.SHA384())
        parsed.key.public_key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))

    return verify


def _bare_snp_parsing(sample: Sample) -> Work:
    """The same, and nothing parsed but the keys."""
    parsed, verify = _endorsements(sample), _bare_snp(sample)
    keys = [each.public_key_info for each in (parsed.key.certificate, parsed.ca, parsed.root)]

    def parse_and_verify() -> None:
        for key in keys:
            load_der_public_key(key)
        verify()

    return parse_and_verify


def _endorsements(sample: Sample) -> snp_certs.SnpEndorsements:
    supplied = sample.supplied
    return snp_certs.parse_endorsements(supplied.key or b"", supplied.chain or b"", supplied.crl)


Question = tuple[Evidence, Binding, Topology, AppraisalContext]


def _question() -> Question:
    """What a member of the example application asks about another."""
    vendor = LabPki.create(int(time.time()))
    declared = json.loads(declare(vendor.created, Ed25519PrivateKey.generate()).envelope)
    topology = parse_topology(base64.b64decode(declared["payload"]))
    digest, challenge = bytes(48), bytes(32)
    binding = Binding(
        Purpose.SEAL, digest, digest, 1, digest, "web", digest, digest, challenge, Status.COMMITTED
    )
    guest = lab_measurements("web", MESH)
    register = extend(guest.rtmr[3], instance_event(binding.iid))
    guest = replace(guest, rtmr=(*guest.rtmr[:3], register))
    quote = LabHost(vendor, bytes(16)).quote(binding.report_data(), guest)
    context = AppraisalContext(vendor.anchors(), (vendor.collateral(),), vendor.created)
    return Evidence(tee=TDX, quote=quote), binding, topology, context


def _repeat(question: Question) -> Work:
    cache = VerdictCache(appraise)
    cache.appraise(*question)
    return lambda: cache.appraise(*question)


async def _stalls(question: Question) -> Result:
    """How late a timer of 1 ms is while another thread appraises, as in a member, and while none does."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        started = loop.time()
        busy = loop.run_in_executor(pool, _appraise_all, question)
        late = await _lateness(busy.done)
        await busy
        seconds = loop.time() - started
        ended = loop.time() + seconds
        idle = await _lateness(lambda: loop.time() > ended)
    return {
        "appraisals": _APPRAISALS,
        "per_second": round(_APPRAISALS / seconds),
        "worst_stall_ms": round(1000 * max(late), 1),
        "median_stall_ms": round(1000 * statistics.median(late), 1),
        "worst_stall_without_ms": round(1000 * max(idle), 1),
    }


def _appraise_all(question: Question) -> None:
    for _ in range(_APPRAISALS):
        appraise(*question)


async def _lateness(done: Callable[[], bool]) -> list[float]:
    loop = asyncio.get_running_loop()
    late: list[float] = []
    while not done():
        wanted = loop.time() + _TICK_S
        await asyncio.sleep(_TICK_S)
        late.append(loop.time() - wanted)
    return late


def _starts(tdx: Sample, snp: Sample) -> Result:
    """Milliseconds of whole processes: an interpreter, one that imports the verifier, one verdict each."""
    python = [sys.executable, "-I"]
    found = {
        "interpreter_ms": _process([*python, "-c", "pass"]),
        "import_ms": _process([*python, "-c", "import toposeal.verification.appraise"]),
    }
    with tempfile.TemporaryDirectory() as folder:
        for sample in (tdx, snp):
            if sample.anchors is VENDOR_ANCHORS:  # production knows no other
                command = [*python, "-m", "toposeal", "evidence", "verify", *_files(sample, Path(folder))]
                found[f"verify_{sample.kind}_ms"] = _process(command)
    return found


def _files(sample: Sample, folder: Path) -> list[str]:
    parts = {"evidence": sample.data}
    if sample.kind is EvidenceKind.TDX:
        parts["--collateral"] = sample.supplied.collateral[0]
    else:
        parts |= {"--vcek": sample.supplied.key or b"", "--chain": sample.supplied.chain or b""}
    words = ["--at", str(sample.now)]
    for name, content in parts.items():
        path = folder / f"{sample.kind}{name}"
        path.write_bytes(content)
        words += [name, str(path)] if name.startswith("--") else [str(path)]
    return words


def _process(command: Sequence[str]) -> float:
    """The median of seven runs. Raises CheckFailed for one that fails."""
    took: list[float] = []
    for _ in range(7):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        took.append(1000 * (time.perf_counter() - started))
        if done.returncode:
            raise CheckFailed(f"{command[-1]}: exit {done.returncode}: {done.stderr.decode()[-400:]}")
    return round(statistics.median(took), 1)
