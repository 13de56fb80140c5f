"""Members of the lab get the machines that were chosen for them."""

from __future__ import annotations

import pytest
from support.snp import amd

from toposeal.evidence.ghcb_table import parse_certificate_table
from toposeal.evidence.snp_certs import parse_endorsements
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.topology.snp import SnpReference
from toposeal.verification.snp_authentic import authenticate
from toposeal_lab.simsnp import lab_snp_measurements
from toposeal_lab.simsnp.pki import pem
from toposeal_lab.tees import TeeChoice, lab_tees
from toposeal_lab.tsm_config import SnpTee, TdxTee

ROLES = {"web": "web", "api-1": "api", "api-2": "api", "db": "db"}


@pytest.mark.parametrize(
    ("choice", "kinds"),
    [
        (TeeChoice.TDX, [TdxTee] * 4),
        (TeeChoice.SNP, [SnpTee] * 4),
        (TeeChoice.MIXED, [TdxTee, SnpTee, TdxTee, SnpTee]),
    ],
)
def test_every_member_gets_a_machine_of_its_own(choice: TeeChoice, kinds: list[type]) -> None:
    tees = lab_tees(ROLES, "shop", choice, amd())
    assert list(tees) == list(ROLES)
    assert [type(tee) for tee in tees.values()] == kinds
    machines = {tee.ppid if isinstance(tee, TdxTee) else tee.chip.chip_id for tee in tees.values()}
    assert len(machines) == 4


def test_an_snp_member_has_its_role_and_what_vouches_for_it() -> None:
    tee = lab_tees({"db": "db"}, "shop", TeeChoice.SNP, amd())["db"]
    assert isinstance(tee, SnpTee)
    table = parse_certificate_table(tee.table)
    report = parse_snp_report(tee.chip.report(bytes(64), tee.measurements))
    chain = pem(table.ca or b"") + pem(table.root or b"")
    endorsements = parse_endorsements(key=table.vcek or b"", chain=chain)
    authenticate(report, endorsements, amd().anchors(), amd().created)
    reference: SnpReference = lab_snp_measurements("db", "shop").reference()
    assert (report.measurement, report.host_data) == (reference.measurement, reference.host_data)


def test_snp_needs_its_vendor() -> None:
    with pytest.raises(ValueError, match="simulated AMD"):
        lab_tees(ROLES, "shop", TeeChoice.MIXED)
