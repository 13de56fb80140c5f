"""A member that peers have met before its first attempt: nobody may take it for a stranger."""

from __future__ import annotations

from toposeal.errors import Reason
from toposeal_lab.simulation.network import Faults, Network, signed_topology


def test_a_late_member_is_introduced_before_it_says_anything_else() -> None:
    network = Network(signed_topology({"db": (1, 1), "web": (1, 1)}), faults=Faults(quote_ms=500))
    first = network.boot("web")
    network.run(1_500)  # its announcements go on
    late = network.boot("db")
    network.run(20_000, network.all_active)
    assert network.all_active()
    assert Reason.UNKNOWN_MEMBER not in {m.reason for m in first.refusals + late.refusals}
    # JOIN and SEAL quotes and a few messages; no wait for the next periodic repetition.
    assert network.now < 1_500 + 500 + 500 + 100 + 2_000


def test_the_last_member_of_four_waits_for_no_timer() -> None:
    network = Network(signed_topology({"api": (2, 2), "db": (1, 1), "web": (1, 1)}))
    for role in ("web", "api", "db"):
        network.boot(role)
    network.run(5_000)
    began = network.now
    network.boot("api")
    network.run(20_000, network.all_active)
    assert network.all_active()
    assert network.now - began < 2 * 40 + 60  # two quotes, and round trips of 1 to 3 ms
