"""The same eight bytes mean other components on Turin, and a component is compared with its own."""

from __future__ import annotations

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.snp_tcb import Product, SnpTcb, decode_tcb, product_of_cpu

RAW = bytes([1, 2, 0, 0, 0, 0, 7, 8])


@pytest.mark.parametrize("product", [Product.MILAN, Product.GENOA, None])
def test_the_layout_before_turin(product: Product | None) -> None:
    assert decode_tcb(RAW, product, "tcb") == SnpTcb(bl=1, tee=2, snp=7, ucode=8)


def test_the_layout_of_turin() -> None:
    tcb = decode_tcb(bytes([1, 2, 3, 4, 0, 0, 0, 8]), Product.TURIN, "tcb")
    assert tcb == SnpTcb(fmc=1, bl=2, tee=3, snp=4, ucode=8)
    assert str(tcb) == "fmc=1 bl=2 tee=3 snp=4 ucode=8"


@pytest.mark.parametrize(
    ("product", "offset"),
    [(Product.MILAN, offset) for offset in (2, 3, 4, 5)] + [(Product.TURIN, offset) for offset in (4, 5, 6)],
)
def test_reserved_bytes_are_zero(product: Product, offset: int) -> None:
    raw = bytearray(8)
    decode_tcb(bytes(raw), product, "tcb")
    raw[offset] = 1
    with pytest.raises(EvidenceError) as refused:
        decode_tcb(bytes(raw), product, "tcb")
    assert refused.value.reason is Reason.QUOTE_FORMAT


@pytest.mark.parametrize("name", ["fmc", "bl", "tee", "snp", "ucode"])
def test_E8_every_component_counts_by_itself(name: str) -> None:
    tcb = SnpTcb(fmc=5, bl=5, tee=5, snp=5, ucode=5)
    floor = tcb.components()
    assert tcb.below(floor) == ()
    assert tcb.below(floor | {name: 4}) == ()
    assert tcb.below(dict.fromkeys(floor, 0) | {name: 6}) == (name,)


def test_a_component_that_is_not_there_is_below() -> None:
    assert SnpTcb(bl=9, tee=9, snp=9, ucode=9).below({"fmc": 0}) == ("fmc",)


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, Product.MILAN),
        (0x19, 0x0F, Product.MILAN),
        (0x19, 0x10, Product.GENOA),
        (0x19, 0x1F, Product.GENOA),
        (0x19, 0x20, None),
        (0x19, 0xA0, Product.GENOA),
        (0x19, 0xAF, Product.GENOA),
        (0x19, 0xB0, None),
        (0x1A, 0x00, Product.TURIN),
        (0x1A, 0x11, Product.TURIN),
        (0x1A, 0x12, None),
        (0x17, 0x31, None),
    ],
)
def test_products_by_cpuid(family: int, model: int, product: Product | None) -> None:
    assert product_of_cpu(family, model) is product
