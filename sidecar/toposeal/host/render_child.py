"""The renderer's child: imports Envoy's message types, waits for one frame, answers with its forms, ends.

`python -I -m toposeal.host.render_child` reads a frame from standard input to its end and writes what
Envoy is to be sent, with places for the members. It has no key, no network and nothing to read but its own
code.
"""

from __future__ import annotations

import os
import sys

from toposeal.dataplane.envoy_open import forms
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsidePort, Peer, PodPlan
from toposeal.dataplane.envoy_request import decode, encode
from toposeal.dataplane.layout import ENVOY_LAYOUT


def main() -> None:
    """Any refusal ends the process with a traceback on stderr and no answer. Once the answer is out,
    nothing is left to do but to take thousands of classes apart, which would take 0.2 s.
    """
    forms(_rehearsal(), ENVOY_LAYOUT)
    frame = decode(PodPlan, sys.stdin.buffer.read())
    sys.stdout.buffer.write(encode(forms(frame, ENVOY_LAYOUT)))
    sys.stdout.buffer.flush()
    os._exit(0)


def _rehearsal() -> PodPlan:
    """Rendering once before it counts spares the real one 0.2 s of building validators."""
    peer = Peer("m-0.rehearsal", "spiffe://m-0.rehearsal/peer", "", ("192.0.2.1",))
    return PodPlan(
        generation=1,
        own=peer,
        application="192.0.2.1",
        inbound=(Inbound(1, (), 1, False, True, False, True),),
        outbound=(Outbound("peer", 1, "192.0.2.1", (), (), True, 1, False, False),),
        ingress=(OutsidePort(2, 1, 1, False, False, False),),
        attestation_port=3,
        hosts=(),
        ranges=(),
        probes=(),
        metrics=0,
    )


if __name__ == "__main__":
    main()
