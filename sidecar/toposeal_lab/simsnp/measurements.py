"""What a simulated SNP guest was launched with: the measured fields of its reports, chosen freely."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from toposeal.encoding import lp
from toposeal.topology.snp import SnpReference

POLICY_SMT = 0x30000  # bit 17, which must be one, and SMT: what cloud guests are launched with


@dataclass(frozen=True)
class SnpMeasurements:
    """AMD's field names. Sizes in bytes: digests 48, host_data 32, identifiers 16."""

    measurement: bytes = bytes(48)
    host_data: bytes = bytes(32)
    policy: int = POLICY_SMT
    vmpl: int = 0
    guest_svn: int = 0
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    report_id: bytes = bytes(range(32))  # the firmware draws one for each guest that it starts

    def reference(self) -> SnpReference:
        """The reference that admits exactly this guest, however its launch was signed."""
        return SnpReference(
            measurement=self.measurement,
            host_data=self.host_data,
            guest_svn=self.guest_svn,
            family_id=self.family_id,
            image_id=self.image_id,
            id_key_digests=None,
            author_key_digests=None,
        )

    def declared(self) -> dict[str, object]:
        """`reference` as a topology declares it."""
        fields = ("measurement", "host_data", "family_id", "image_id")
        declared: dict[str, object] = {name: getattr(self, name).hex() for name in fields}
        return declared | {"guest_svn": self.guest_svn, "id_key_digests": "any", "author_key_digests": "any"}


def lab_snp_measurements(role: str, mesh: str) -> SnpMeasurements:
    """One guest image for the whole lab, told apart by HOST_DATA, that of (mesh, role), as with CoCo."""
    label = b"".join(lp(part.encode()) for part in ("initdata", mesh, role))
    return SnpMeasurements(
        measurement=hashlib.sha384(b"toposeal-lab/snp").digest(),
        host_data=hashlib.sha256(b"toposeal-lab/" + label).digest(),
    )
