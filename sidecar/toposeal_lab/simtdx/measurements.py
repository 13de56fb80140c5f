"""What a simulated TD was started with: the measured fields of its quotes, chosen freely."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from toposeal.encoding import lp

ZERO_REGISTER = bytes(48)
SEPT_VE_DISABLE = (1 << 28).to_bytes(8, "little")
LAB_XFAM = bytes.fromhex("e71a060000000000")
LAB_MRSEAM = hashlib.sha384(b"simulated TDX module").digest()


@dataclass(frozen=True)
class TdxMeasurements:
    """Vendor field names; 48 bytes each, attributes and XFAM 8, little-endian as in the quote."""

    mrtd: bytes = ZERO_REGISTER
    rtmr: tuple[bytes, bytes, bytes, bytes] = (ZERO_REGISTER,) * 4
    mrconfigid: bytes = ZERO_REGISTER
    mrowner: bytes = ZERO_REGISTER
    mrownerconfig: bytes = ZERO_REGISTER
    mrseam: bytes = LAB_MRSEAM
    mrsignerseam: bytes = ZERO_REGISTER
    seam_attributes: bytes = bytes(8)
    td_attributes: bytes = SEPT_VE_DISABLE
    xfam: bytes = LAB_XFAM
    tee_tcb_svn: bytes = bytes([5, 1, 6]) + bytes(13)

    def reference(self) -> dict[str, object]:
        """The `tdx` reference of a topology role that admits exactly this TD (hex strings)."""
        return {
            "mrtd": self.mrtd.hex(),
            **{f"rtmr{index}": register.hex() for index, register in enumerate(self.rtmr)},
            "mrconfigid": self.mrconfigid.hex(),
            "mrowner": self.mrowner.hex(),
            "mrownerconfig": self.mrownerconfig.hex(),
            "mrseam": [self.mrseam.hex()],
            "td_attributes": self.td_attributes.hex(),
            "xfam": self.xfam.hex(),
        }

    def dump(self) -> dict[str, object]:
        """The JSON form that `load` reads; defaults included."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rtmr"}
        return {name: value.hex() for name, value in fields.items()} | {"rtmr": [r.hex() for r in self.rtmr]}

    @classmethod
    def load(cls, state: dict[str, object]) -> TdxMeasurements:
        """Read `dump`'s form; absent fields keep their defaults. Raises TypeError for unknown ones."""
        registers = state.get("rtmr", [ZERO_REGISTER.hex()] * 4)
        if not isinstance(registers, list) or len(registers) != 4:
            raise ValueError("rtmr takes four registers")
        fields = {name: bytes.fromhex(str(value)) for name, value in state.items() if name != "rtmr"}
        first, second, third, fourth = (bytes.fromhex(str(register)) for register in registers)
        return cls(rtmr=(first, second, third, fourth), **fields)


def lab_measurements(role: str, mesh: str) -> TdxMeasurements:
    """One guest image for the whole lab, told apart by its measured configuration, as with CoCo:
    MRTD and RTMR0..2 are the lab's, MRCONFIGID is that of (mesh, role), RTMR3 is zero."""
    return TdxMeasurements(
        mrtd=_label("mrtd"),
        rtmr=(_label("rtmr0"), _label("rtmr1"), _label("rtmr2"), ZERO_REGISTER),
        mrconfigid=_label("initdata", mesh, role),
    )


def _label(*parts: str) -> bytes:
    return hashlib.sha384(b"toposeal-lab/" + b"".join(lp(part.encode()) for part in parts)).digest()
