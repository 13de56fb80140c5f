"""A role gets exactly the devices it demands: as many, of these models, each once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.gpu import authentic, gpu

from toposeal.errors import PolicyError, Reason
from toposeal.evidence.gpu_report import GpuMode
from toposeal.topology.gpu import GpuDemand
from toposeal.verification.gpu_authentic import AuthenticGpu
from toposeal.verification.gpu_policy import require_gpus

FIRST, SECOND, BLACKWELL = gpu(), gpu("GH100", 2), gpu("GB100", 4)
TWO = GpuDemand(2, frozenset({"GH100"}))


def refused(found: list[AuthenticGpu], demand: GpuDemand | None) -> list[Reason]:
    with pytest.raises(PolicyError) as raised:
        require_gpus(found, demand)
    return [mismatch.reason for mismatch in raised.value.mismatches]


def test_what_is_demanded_is_accepted() -> None:
    require_gpus([authentic(FIRST), authentic(SECOND)], TWO)
    require_gpus([authentic(FIRST), authentic(BLACKWELL)], GpuDemand(2, frozenset({"GH100", "GB100"})))
    require_gpus([], None)


def test_E18_one_of_two_is_missing() -> None:
    assert refused([authentic(FIRST)], TWO) == [Reason.GPU_COUNT]
    assert refused([], TWO) == [Reason.GPU_COUNT]


def test_E18_one_more_than_demanded() -> None:
    third = authentic(gpu("GH100", 3))
    assert refused([authentic(FIRST), authentic(SECOND), third], TWO) == [Reason.GPU_COUNT]
    assert refused([authentic(FIRST)], None) == [Reason.GPU_COUNT, Reason.GPU_MODEL]


def test_E18_another_model() -> None:
    assert refused([authentic(FIRST), authentic(BLACKWELL)], TWO) == [Reason.GPU_MODEL]


def test_E18_one_device_is_shown_twice() -> None:
    assert refused([authentic(FIRST), authentic(FIRST)], TWO) == [Reason.GPU_DUPLICATE] * 2


def test_E18_one_device_under_two_keys_or_two_names() -> None:
    same_name = replace(authentic(SECOND), pdi=FIRST.pdi)
    same_key = replace(authentic(SECOND), device_id=authentic(FIRST).device_id)
    for other in (same_name, same_key):
        assert refused([authentic(FIRST), other], TWO) == [Reason.GPU_DUPLICATE]


@pytest.mark.parametrize("mode", list(GpuMode))
def test_E18_links_in_the_clear_need_switches_that_nobody_vouches_for(mode: GpuMode) -> None:
    device = authentic(FIRST)
    device = replace(device, report=replace(device.report, mode=mode))
    one = GpuDemand(1, frozenset({"GH100"}))
    if mode is GpuMode.PROTECTED_PCIE:
        assert refused([device], one) == [Reason.GPU_MODE]
    else:
        require_gpus([device], one)
