"""AMD's Key Distribution Service: the certificates and the revocation list behind one SNP report."""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.evidence.kds import chain_path, list_path, vcek_path
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal.host import vendor_http
from toposeal.host.vendor_http import Service

AMD_KDS = "https://kdsintf.amd.com"


@dataclass(frozen=True)
class Kds:
    """The service or a mirror of it. Every method blocks and raises NetworkError; nothing is verified."""

    service: Service

    @classmethod
    def amd(cls) -> Kds:
        return cls(Service.parse(AMD_KDS))

    @classmethod
    def mirror(cls, url: str, ca_file: str | None = None) -> Kds:
        """Raises UsageError."""
        return cls(Service.parse(url, ca_file))

    def vcek(self, product: Product, chip_id: bytes, tcb: SnpTcb) -> bytes:
        """DER; `chip_id` is 64 bytes. Raises EvidenceError(CHIP_ID) too, for a chip that is masked."""
        return vendor_http.get(self.service, vcek_path(product, chip_id, tcb)).body

    def chain(self, product: Product, kind: KeyKind) -> bytes:
        """PEM: ASK or ASVK, then ARK."""
        return vendor_http.get(self.service, chain_path(product, kind)).body

    def revocation_list(self, product: Product, kind: KeyKind) -> bytes:
        """DER."""
        return vendor_http.get(self.service, list_path(product, kind)).body
