"""What an operator may ask at the peer port: the status, and to take a topology. It proves nothing.

For members that nobody else answers for: their Envoy is closed. Whoever reaches the port may ask; what is
answered is what the attestation port of an open member says to anybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, encode
from toposeal.errors import ToposealError
from toposeal.limits import MAX_ENVELOPE_SIZE
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import Status

STATUS, PUSH = "Status", "Push"
Call = Callable[[bytes], bytes]  # raises ToposealError to refuse


def operator_calls(status: Callable[[], Status], push: Callable[[bytes], Pushed]) -> Mapping[str, Call]:
    """By method, what answers the exact bytes of a message. `status` and `push` raise ToposealError; why a
    topology is refused is told, by its stable reason alone.
    """

    def tell(data: bytes) -> bytes:
        decode(wire.Asked, data, "asked", MAX_ENVELOPE_SIZE)
        return _told(status().as_json())

    def take(data: bytes) -> bytes:
        handed = decode(wire.Handed, data, "handed", MAX_ENVELOPE_SIZE)
        try:
            return _told(push(handed.topology).as_json())
        except ToposealError as error:
            return _told({"refused": error.reason.value})

    return {STATUS: tell, PUSH: take}


def _told(said: Mapping[str, object]) -> bytes:
    return encode(wire.Told(said=json.dumps(said).encode("ascii")))
