"""AMD products and their TCB versions: eight bytes to named security patch levels. No IO.

Layout: AMD 56860 (SEV-SNP firmware ABI), TCB_VERSION; AMD 57230, table of VCEK extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from toposeal.errors import EvidenceError, Reason

TCB_SIZE = 8


class Product(StrEnum):
    """A product line: one ARK each. The spelling is that of AMD's certificates."""

    MILAN = "Milan"
    GENOA = "Genoa"  # Bergamo and Siena too
    TURIN = "Turin"

    @property
    def hwid_size(self) -> int:
        """Bytes of the chip's identity, HWID and the part of CHIP_ID that is used."""
        return 8 if self is Product.TURIN else 64


# CPUID family to (lowest model, highest model, product).
_MODELS = {
    0x19: (
        (0x00, 0x0F, Product.MILAN),
        (0x10, 0x1F, Product.GENOA),
        (0xA0, 0xAF, Product.GENOA),
    ),
    0x1A: ((0x00, 0x11, Product.TURIN),),
}


@dataclass(frozen=True)
class SnpTcb:
    """Security patch levels, each 0 to 255, under AMD's short names; `fmc` exists on Turin alone."""

    bl: int
    tee: int
    snp: int
    ucode: int
    fmc: int | None = None

    def components(self) -> dict[str, int]:
        """Level by name of every component that the product has."""
        own = {"bl": self.bl, "tee": self.tee, "snp": self.snp, "ucode": self.ucode}
        return own if self.fmc is None else {"fmc": self.fmc, **own}

    def below(self, floor: Mapping[str, int]) -> tuple[str, ...]:
        """The components that are lower than in `floor`; one that only `floor` has counts as lower."""
        own = self.components()
        return tuple(name for name, level in floor.items() if own.get(name, -1) < level)

    def __str__(self) -> str:
        return " ".join(f"{name}={level}" for name, level in self.components().items())


def product_of_cpu(family: int, model: int) -> Product | None:
    """The product line of a CPUID family and model, or None for one that is not known."""
    for low, high, product in _MODELS.get(family, ()):
        if low <= model <= high:
            return product
    return None


def decode_tcb(raw: bytes, product: Product | None, field: str) -> SnpTcb:
    """Name the eight bytes; None means the layout before Turin.

    Raises EvidenceError(QUOTE_FORMAT) where a reserved byte is not zero.
    """
    if product is Product.TURIN:
        tcb = SnpTcb(fmc=raw[0], bl=raw[1], tee=raw[2], snp=raw[3], ucode=raw[7])
        reserved = raw[4:7]
    else:
        tcb = SnpTcb(bl=raw[0], tee=raw[1], snp=raw[6], ucode=raw[7])
        reserved = raw[2:6]
    if any(reserved):
        raise EvidenceError.of(Reason.QUOTE_FORMAT, field, raw, "reserved bytes that are zero")
    return tcb
