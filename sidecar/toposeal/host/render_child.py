"""The renderer's child: imports Envoy's message types, waits for one frame, answers with its forms, ends.

`python -I -m toposeal.host.render_child` reads a frame from standard input to its end and writes what
Envoy is to be sent, with places for the members. It has no key, no network and nothing to read but its own
code.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Any refusal ends the process with a traceback on stderr and no answer. Once the answer is out,
    nothing is left to do but to take thousands of classes apart, which would take 0.2 s.
    """
    gc.disable()  # those classes come to stay: looking among them for garbage is a tenth of their import

    from toposeal.dataplane.envoy_open import forms
    from toposeal.dataplane.envoy_plan import PodPlan
    from toposeal.dataplane.envoy_request import decode, encode
    from toposeal.dataplane.layout import ENVOY_LAYOUT

    frame = decode(PodPlan, sys.stdin.buffer.read())
    sys.stdout.buffer.write(encode(forms(frame, ENVOY_LAYOUT)))
    sys.stdout.buffer.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
