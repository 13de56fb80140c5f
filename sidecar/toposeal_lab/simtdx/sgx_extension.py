"""The Intel SGX extension of a PCK certificate, in DER (Intel PCK certificate profile, 1.3.5)."""

from __future__ import annotations

from dataclasses import dataclass

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
_OID_PREFIX = bytes.fromhex("2a864886f84d010d01")


@dataclass(frozen=True)
class PlatformIdentity:
    """What Intel certifies about one machine. Sizes in bytes: ppid 16, cpu_svn 16, fmspc 6, pce_id 2."""

    ppid: bytes
    fmspc: bytes
    pce_id: bytes
    instance: bytes = bytes(16)
    cpu_svn: bytes = bytes([2] * 16)
    pce_svn: int = 11

    def extension(self) -> bytes:
        """DER of the extension's value; platform flags are those of a real cloud host."""
        components = [_entry((2, i + 1), _integer(svn)) for i, svn in enumerate(self.cpu_svn)]
        tcb = [*components, _entry((2, 17), _integer(self.pce_svn)), _entry((2, 18), _octets(self.cpu_svn))]
        flags = [_entry((7, i), _tlv(0x01, b"\xff")) for i in (1, 2, 3)]
        return _sequence(
            _entry((1,), _octets(self.ppid)),
            _entry((2,), _sequence(*tcb)),
            _entry((3,), _octets(self.pce_id)),
            _entry((4,), _octets(self.fmspc)),
            _entry((5,), _tlv(0x0A, b"\x01")),
            _entry((6,), _octets(self.instance)),
            _entry((7,), _sequence(*flags)),
        )


def _entry(arcs: tuple[int, ...], value: bytes) -> bytes:
    return _sequence(_tlv(0x06, _OID_PREFIX + bytes(arcs)), value)


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _octets(data: bytes) -> bytes:
    return _tlv(0x04, data)


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content
