"""Marks only rise, by what a vendor signed alone, and a file of them is read strictly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.collateral import authentic, crl
from support.snp import NOW as SNP_NOW
from support.snp import amd
from support.tdx import NOW, PKI, refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.limits import MAX_MARKS, MAX_MARKS_SIZE
from toposeal.verification.collateral_authentic import (
    ListAge,
    authenticate_amd_list,
)
from toposeal.verification.high_water import Marks, parse_marks

DAY = 86_400
FMSPC = PKI.fmspc.hex()
ISSUER = "ab" * 32


def test_nothing_seen_refuses_nothing() -> None:
    Marks().check(authentic())
    Marks().check_list(authenticate_amd_list(amd().crl(), amd().anchors(), SNP_NOW), "VCEK")


def test_E9_a_lower_evaluation_number_is_refused_although_it_is_in_force() -> None:
    marks = Marks().raised(authentic(evaluation=21))
    marks.check(authentic(evaluation=21))
    marks.check(authentic(evaluation=22))
    assert refusal(marks.check, authentic(evaluation=20)) is Reason.COLLATERAL_ROLLBACK


def test_E9_a_platform_family_has_a_mark_of_its_own() -> None:
    marks = Marks().raised(authentic(evaluation=21))
    Marks({"00" * 6: 99}).check(authentic())
    marks.check(replace(authentic(evaluation=20), fmspc=b"other!"))


@pytest.mark.parametrize("name", ["pck_crl", "root_ca_crl"])
def test_E9_an_older_list_is_refused_although_the_number_is_the_same(name: str) -> None:
    """Intel numbers every list 1."""
    issuer = PKI.platform_ca if name == "pck_crl" else PKI.root
    marks = Marks().raised(authentic(parts={name: crl(issuer, days=1).hex()}))
    assert refusal(marks.check, authentic()) is Reason.COLLATERAL_ROLLBACK
    marks.check(authentic(parts={name: crl(issuer, days=1).hex()}))


def test_E9_a_higher_number_goes_before_any_date() -> None:
    marks = Marks().raised(authentic(parts={"pck_crl": crl(PKI.platform_ca, days=0, number=2).hex()}))
    later = authentic(parts={"pck_crl": crl(PKI.platform_ca, days=1, number=1).hex()})
    assert refusal(marks.check, later) is Reason.COLLATERAL_ROLLBACK


def test_E9_the_two_lists_of_an_ark_have_marks_of_their_own() -> None:
    found = authenticate_amd_list(amd().crl(), amd().anchors(), SNP_NOW)
    older = replace(found, age=ListAge(0, found.age.issued - 1))
    marks = Marks().raised_by_list(found, "VCEK")
    with pytest.raises(EvidenceError) as refused:
        marks.check_list(older, "VCEK")
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK
    marks.check_list(older, "VLEK")
    marks.check_list(found, "VCEK")


def test_S8_marks_never_fall() -> None:
    marks = Marks().raised(authentic(evaluation=21, parts={"pck_crl": crl(PKI.platform_ca, days=1).hex()}))
    assert marks.raised(authentic(evaluation=20)) == marks
    found = authenticate_amd_list(amd().crl(), amd().anchors(), SNP_NOW)
    raised = marks.raised_by_list(found, "VCEK")
    older = replace(found, age=ListAge(0, 0))
    assert raised.raised_by_list(older, "VCEK") == raised


def test_S8_merging_takes_the_higher_of_both() -> None:
    one = Marks({"a" * 12: 3, "b" * 12: 9}, {ISSUER: ListAge(1, 5)})
    other = Marks({"a" * 12: 4, "c" * 12: 1}, {ISSUER: ListAge(1, 6), "cd" * 32: ListAge(0, 1)})
    both = Marks({"a" * 12: 4, "b" * 12: 9, "c" * 12: 1}, {ISSUER: ListAge(1, 6), "cd" * 32: ListAge(0, 1)})
    assert one.merged(other) == other.merged(one) == both


def test_what_is_written_is_read() -> None:
    marks = Marks(
        {FMSPC: 21}, {ISSUER: ListAge((1 << 160) - 1, NOW), f"{ISSUER}/VCEK": ListAge(0, 0)}
    ).raised(authentic())
    assert parse_marks(marks.dump()) == marks
    assert parse_marks(Marks().dump()) == Marks()


def form(evaluations: str = "{}", lists: str = "{}", version: str = "1") -> bytes:
    return f'{{"version":{version},"evaluations":{evaluations},"lists":{lists}}}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        form(version="2"),
        form(version="true"),
        form(version='"1"'),
        form(evaluations="[]"),
        form(lists="1"),
        form()[:-1] + b',"more":1}',
        form(evaluations='{"00": 1}'),
        form(evaluations='{"000000000000": -1}'),
        form(evaluations='{"000000000000": true}'),
        form(evaluations='{"00000000000G": 1}'),
        form(evaluations=f'{{"000000000000": {1 << 31}}}'),
        form(evaluations='{"000000000000": 1, "000000000000": 0}'),
        form(lists='{"ab": ["1", 1]}'),
        form(lists=f'{{"{ISSUER}/ARK": ["1", 1]}}'),
        form(lists=f'{{"{ISSUER}": 1}}'),
        form(lists=f'{{"{ISSUER}": ["1"]}}'),
        form(lists=f'{{"{ISSUER}": [1, 1]}}'),
        form(lists=f'{{"{ISSUER}": ["", 1]}}'),
        form(lists=f'{{"{ISSUER}": ["{"f" * 41}", 1]}}'),
        form(lists=f'{{"{ISSUER}": ["1", -1]}}'),
        form(lists=f'{{"{ISSUER}": ["1", 999999999999]}}'),
    ],
)
def test_E14_another_file_is_refused(data: bytes) -> None:
    assert refusal(parse_marks, data) is Reason.COLLATERAL_INVALID


def test_L4_marks_are_bounded() -> None:
    assert refusal(parse_marks, bytes(MAX_MARKS_SIZE + 1)) is Reason.TOO_LARGE
    many = Marks({f"{number:012x}": 1 for number in range(MAX_MARKS)})
    assert parse_marks(many.dump()) == many
    assert refusal(many.raised, authentic()) is Reason.TOO_LARGE
