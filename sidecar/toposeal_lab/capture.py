"""Every frame that a pod puts on its wire, seen from the node's end of the veth."""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from toposeal_lab.pods import Node, Pod

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_BUFFER = 32 << 20  # a flood of the whole test fits
_CONTROL = socket.CMSG_SPACE(16)  # one struct timespec
_ARP, _IPV6 = b"\x08\x06", b"\x86\xdd"
_ICMPV6, _ND_TYPES = 58, range(133, 137)
_TCP, _RST = 6, 0x04


@dataclass(frozen=True)
class Capture:
    """Frames in order of arrival. `lost` other than 0 makes any statement about absence worthless."""

    frames: tuple[bytes, ...]
    times: tuple[float, ...]  # of each frame, by the kernel's wall clock
    lost: int

    def carrying(self, marker: bytes) -> int:
        """How many frames hold `marker` anywhere."""
        return sum(marker in frame for frame in self.frames)

    def span(self, marker: bytes) -> float:
        """Seconds between the first and the last frame with `marker`; 0 without any."""
        found = [time for frame, time in zip(self.frames, self.times, strict=True) if marker in frame]
        return found[-1] - found[0] if found else 0

    def packets(self) -> tuple[bytes, ...]:
        """Frames that are neither ARP nor neighbour discovery: what a closed pod must not send."""
        return tuple(frame for frame in self.frames if not _is_neighbour(frame))

    def beyond_resets(self) -> tuple[bytes, ...]:
        """`packets` without TCP resets that carry no data: what a pod that is knocked at must not send."""
        return tuple(frame for frame in self.packets() if not _is_reset(frame))


class Wire:
    """Context manager that records what `pod` sends; `stop()` ends it after `settle` quiet seconds."""

    def __init__(self, node: Node, pod: Pod) -> None:
        with node.host().inside():
            # With a protocol it would hear every interface until it is bound.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind((pod.interface, _ETH_P_ALL))
        self._socket.settimeout(0.05)
        self._frames: list[bytes] = []
        self._times: list[float] = []
        self._last = time.monotonic()
        self._until = math.inf  # by the clock that stamps frames
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self, settle: float = 0.3) -> Capture:
        """Wait until the wire was quiet for `settle` seconds (5 s at most), then return all frames until
        then, also those that nobody has read yet.
        """
        deadline = time.monotonic() + 5
        self._last = time.monotonic()
        while time.monotonic() < min(deadline, self._last + settle):
            time.sleep(0.02)
        self._until = time.time()
        self._thread.join()
        lost = int.from_bytes(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)[4:], "little")
        self._socket.close()
        return Capture(tuple(self._frames), tuple(self._times), lost)

    def _read(self) -> None:
        while True:
            stopped = self._until < math.inf
            try:
                frame, control, _, address = self._socket.recvmsg(1 << 16, _CONTROL)
            except TimeoutError:
                if stopped:
                    return
                continue
            seconds, nanoseconds = struct.unpack("=qq", control[0][2])
            when = seconds + nanoseconds / 1e9
            if when > self._until:
                return
            if address[2] != socket.PACKET_OUTGOING:
                self._last = time.monotonic()
                self._frames.append(frame)
                self._times.append(when)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._until == math.inf:
            self.stop(settle=0)


def _is_neighbour(frame: bytes) -> bool:
    if frame[12:14] == _ARP:
        return True
    return frame[12:14] == _IPV6 and frame[20] == _ICMPV6 and len(frame) > 54 and frame[54] in _ND_TYPES


def _is_reset(frame: bytes) -> bool:
    """A bare TCP reset: no payload, and so nothing of anybody's choice."""
    if frame[12:14] == _IPV6:
        protocol, segment, size = frame[20], frame[54:], int.from_bytes(frame[18:20], "big")
    else:
        header = (frame[14] & 0x0F) * 4
        protocol, segment = frame[23], frame[14 + header :]
        size = int.from_bytes(frame[16:18], "big") - header
    return protocol == _TCP and bool(segment[13] & _RST) and size == (segment[12] >> 4) * 4
