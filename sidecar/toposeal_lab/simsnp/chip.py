"""One simulated SNP machine: its endorsement key, and reports of any guest in version 2, 3 or 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal_lab.simsnp.measurements import SnpMeasurements
from toposeal_lab.simsnp.pki import GENUINE, LabAmd, LeafShape

_CPUID = {
    Product.MILAN: (0x19, 0x01, 0x01),
    Product.GENOA: (0x19, 0x11, 0x01),
    Product.TURIN: (0x1A, 0x02, 0x01),
}
_NEWEST = {Product.MILAN: 3, Product.GENOA: 5, Product.TURIN: 5}
_SMT_ECC_ALIAS_CHECKED = 0x25
_FIRMWARE = bytes([40, 55, 1, 0])  # build, minor, major


@dataclass(frozen=True)
class ReportShape:
    """The parts of a report that no guest chooses; the defaults are genuine, tests change them."""

    version: int | None = None  # default: the newest that the product's firmware writes
    platform_info: int = _SMT_ECC_ALIAS_CHECKED
    key_info: int | None = None
    mask_chip_id: bool = False
    cpuid: tuple[int, int, int] | None = None
    reported: SnpTcb | None = None
    current: SnpTcb | None = None
    committed: SnpTcb | None = None
    launch: SnpTcb | None = None
    launch_mitigations: int = 0
    current_mitigations: int = 0
    patches: Mapping[int, bytes] = field(default_factory=dict)  # by offset, before the signature


class SimulatedChip:
    """A machine as its guests know it: what reports say of it, and the key that signs them."""

    def __init__(
        self, product: Product, kind: KeyKind, chip_id: bytes, tcb: SnpTcb, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.product = product
        self.kind = kind
        self.chip_id = chip_id
        self.tcb = tcb
        self._key = key

    def dump(self) -> dict[str, object]:
        """The JSON form that `load` reads, private key included."""
        key = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        names = {"product": self.product.value, "kind": self.kind.value, "tcb": asdict(self.tcb)}
        return {**names, "chip_id": self.chip_id.hex(), "key": key.hex()}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> SimulatedChip:
        """Read `dump`'s form. Raises ValueError, KeyError or TypeError for anything else."""
        key = load_der_private_key(bytes.fromhex(state["key"]), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("a chip signs with ECDSA")
        chip_id, tcb = bytes.fromhex(state["chip_id"]), SnpTcb(**state["tcb"])
        return SimulatedChip(Product(state["product"]), KeyKind(state["kind"]), chip_id, tcb, key)

    def report(self, report_data: bytes, guest: SnpMeasurements, shape: ReportShape = ReportShape()) -> bytes:
        """A signed report; `report_data` is exactly 64 bytes. Raises ValueError for another size."""
        if len(report_data) != 64:
            raise ValueError("report_data takes 64 bytes")
        body = bytearray(1184)
        pieces = {**self._guest(report_data, guest), **self._platform(shape), **shape.patches}
        for offset, piece in pieces.items():
            body[offset : offset + len(piece)] = piece
        signature = self._key.sign(bytes(body[:0x2A0]), ec.ECDSA(hashes.SHA384()))
        r, s = utils.decode_dss_signature(signature)
        after = {offset: piece for offset, piece in shape.patches.items() if offset >= 0x2A0}
        for offset, piece in {0x2A0: _little(r, 48), 0x2E8: _little(s, 48), **after}.items():
            body[offset : offset + len(piece)] = piece
        return bytes(body)

    def _guest(self, report_data: bytes, guest: SnpMeasurements) -> dict[int, bytes]:
        return {
            0x004: _little(guest.guest_svn, 4),
            0x008: _little(guest.policy, 8),
            0x010: guest.family_id,
            0x020: guest.image_id,
            0x030: _little(guest.vmpl, 4),
            0x050: report_data,
            0x090: guest.measurement,
            0x0C0: guest.host_data,
            0x0E0: guest.id_key_digest,
            0x110: guest.author_key_digest,
            0x140: guest.report_id,
            0x160: b"\xff" * 32,
        }

    def _platform(self, shape: ReportShape) -> dict[int, bytes]:
        product = self.product
        version = shape.version or _NEWEST[product]
        signing_key = 0 if self.kind is KeyKind.VCEK else 1
        masked = shape.mask_chip_id or self.kind is KeyKind.VLEK
        fields = {
            0x000: _little(version, 4),
            0x034: _little(1, 4),
            0x038: encode_tcb(shape.current or self.tcb),
            0x040: _little(shape.platform_info, 8),
            0x048: _little(signing_key << 2 if shape.key_info is None else shape.key_info, 4),
            0x180: encode_tcb(shape.reported or self.tcb),
            0x1A0: bytes(64) if masked else self.chip_id,
            0x1E0: encode_tcb(shape.committed or self.tcb),
            0x1E8: _FIRMWARE,
            0x1EC: _FIRMWARE,
            0x1F0: encode_tcb(shape.launch or self.tcb),
        }
        if version >= 3 or shape.cpuid:
            fields[0x188] = bytes(shape.cpuid or _CPUID[product])
        if version >= 5:
            fields[0x1F8] = _little(shape.launch_mitigations, 8) + _little(shape.current_mitigations, 8)
        return fields


class LabChip(SimulatedChip):
    """A machine of `vendor`, which endorses it. `hwid` is its identity: 64 bytes, on Turin 8."""

    def __init__(
        self,
        vendor: LabAmd,
        hwid: bytes,
        kind: KeyKind = KeyKind.VCEK,
        tcb: SnpTcb | None = None,
        shape: LeafShape = GENUINE,
    ) -> None:
        if len(hwid) != vendor.product.hwid_size:
            raise ValueError(f"a chip of this product has an identity of {vendor.product.hwid_size} bytes")
        key = ec.generate_private_key(ec.SECP384R1())
        super().__init__(vendor.product, kind, hwid.ljust(64, b"\0"), tcb or default_tcb(vendor.product), key)
        self.vendor = vendor
        self.hwid = hwid
        self.certificate = vendor.issue(kind, key.public_key(), self.tcb, hwid, shape)

    @property
    def chain(self) -> bytes:
        """PEM of the CA and the root that vouch for the certificate."""
        return self.vendor.chain(self.kind)


def default_tcb(product: Product) -> SnpTcb:
    """The firmware of a simulated chip."""
    return SnpTcb(bl=10, tee=2, snp=25, ucode=210, fmc=1 if product is Product.TURIN else None)


def encode_tcb(tcb: SnpTcb) -> bytes:
    """The eight bytes of TCB_VERSION; a TCB with an FMC is Turin's."""
    if tcb.fmc is None:
        return bytes([tcb.bl, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.ucode])
    return bytes([tcb.fmc, tcb.bl, tcb.tee, tcb.snp, 0, 0, 0, tcb.ucode])


def _little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")
