"""Makes the genuine part of the kept corpus with the simulators: run it under the development environment.

tests/fuzz/corpus/PARSER/genuine-* are valid inputs that take seconds to make (RSA keys), so they are kept.
The rest was found by `make fuzz` and reduced by `tests/fuzz/parsers.py --keep` to inputs that
reach different code. All of it is simulated: no byte stems from a real machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "sidecar"), str(ROOT / "tests")]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"


def genuine() -> dict[str, dict[str, bytes]]:
    """Inputs by parser and name."""
    from support.kinds import kinds
    from support.snp import amd, chip

    from toposeal.evidence.bundle import Bundle, parse_bundle
    from toposeal.evidence.kind import detect_kind
    from toposeal.evidence.snp_certs import KeyKind
    from toposeal.evidence.snp_tcb import Product
    from toposeal.verification.evidence_check import Supplied
    from toposeal.verification.model import TrustAnchors
    from toposeal.verification.observed_policy import draft
    from toposeal_lab.simsnp.pki import der, pem

    evidence = {name: kind.genuine for name, kind in kinds().items()}
    reports = {name: data for name, data in evidence.items() if name.startswith("snp-") and name[4].isdigit()}
    quotes = {name: data for name, data in evidence.items() if name.startswith("tdx-") and name[4].isdigit()}
    vlek = chip(kind=KeyKind.VLEK)
    leaves = {str(p): chip(p).certificate for p in Product} | {"vlek": vlek.certificate}
    snp = {
        "endorsements": [pem(chip().certificate).decode()],
        "chains": [chip().chain.decode()],
        "crls": [evidence["snp-crl"].hex()],
    }
    bundle = {"tdx": [json.loads(evidence["tdx-collateral"])], "snp": snp}
    parsed: Bundle = parse_bundle(json.dumps(bundle).encode())
    policies = {}
    for name, data in (("tdx", quotes["tdx-4"]), ("snp", reports["snp-5-turin"])):
        made = draft(detect_kind(data), data, Supplied(), TrustAnchors(b""), 0)
        policies[name] = json.dumps(made.document()).encode()
    return {
        "quote": quotes,
        "snp-report": reports,
        "endorsement": leaves,
        "amd-certificate": {"ask": der(amd().ask), "ark": der(amd().ark)},
        "amd-pem": {"chain": chip().chain},
        "amd-crl": {"crl": evidence["snp-crl"]},
        "certificate-table": {"table": evidence["snp-table"]},
        "collateral": {"collateral": evidence["tdx-collateral"]},
        "bundle": {"both": parsed.dump()},
        "evidence-policy": policies,
        **_logs(),
        **_gpu(),
    }


def _logs() -> dict[str, dict[str, bytes]]:
    from toposeal_lab.eventlogs import agent_text, boot_events, ccel, ccel_table, dstack_event, dstack_log

    lines = ["example.org create /etc/passwd", "example.org pull image"]
    return {
        "event-log": {
            "ccel": ccel(boot_events(), 2048),
            "aael": agent_text(lines)[0],
            "dstack": dstack_log([dstack_event("app-id", bytes(20)), dstack_event("boot", b"")]),
        },
        "ccel-table": {"table": ccel_table()},
    }


def _gpu() -> dict[str, dict[str, bytes]]:
    from support.snp import NOW

    from toposeal_lab.simgpu import DeviceShape, LabGpu, LabNvidia, LabRimSigner
    from toposeal_lab.simgpu.pki import firmware

    device = LabGpu(LabNvidia.create(NOW))
    blackwell = DeviceShape(model="GB100")
    golden = {index: [value] for index, value in enumerate(device.measurements()[:4])}
    return {
        "gpu-report": {"report": device.report(bytes(range(32)))},
        "gpu-chain": {"chain": device.chain},
        "gpu-firmware": {"tcb-info": firmware(device.key, blackwell)[1]},
        "rim": {"rim": LabRimSigner.create(NOW).manifest("GH100", "550.90.07", golden)},
    }


def main() -> None:
    for parser, inputs in genuine().items():
        folder = CORPUS / parser
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("genuine-*"):
            old.unlink()
        for name, data in inputs.items():
            (folder / f"genuine-{name}").write_bytes(data)
            print(f"{len(data):6} {parser}/genuine-{name}")


if __name__ == "__main__":
    main()
