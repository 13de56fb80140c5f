"""The owner in a story: newer topologies, each given to one member alone, and an end to contradictions."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.network import Network, signed_topology


class Updates:
    """What a scenario does as the owner; it has these."""

    network: Network
    topology: SignedTopology  # the newest
    seed: int
    roles: dict[str, tuple[int, int]]
    updates: Dice
    peace_at: int

    timers: dict[str, Any]
    wrong: tuple[str, ...] = ()  # roles whose reference values fit nobody, until the owner sees it

    def _signed(self, **document: Any) -> SignedTopology:
        given = {"calls": True, "wrong": self.wrong, **self.timers, **document}
        return _topology(tuple(self.roles.items()), tuple(given.items()))

    def _misdeclare(self, names: Collection[str]) -> None:
        """In some stories the owner begins with a mistake, after which nothing can seal."""
        dice = Dice("reference", self.seed)
        self.wrong = (dice.choice(sorted(names)),) if dice.random() < 0.1 else ()

    def _schedule_correction(self) -> None:
        if self.wrong:
            at = Dice("correction", self.seed).randint(0, self.peace_at)
            self.network.at(at, self._correct)

    def _correct(self) -> None:
        """One member is told, whichever: those that their own topology refuses are members too."""
        if self.wrong:
            self.wrong = ()
            self.network.happened["wrong reference"] += 1
            self.topology = self._signed(version=self.topology.topology.version + 1)
            self._deliver()

    def _schedule_updates(self) -> None:
        """Sometimes a newer topology or two, each given to one member alone."""
        for _ in range(self.updates.choice((0, 0, 0, 1, 2))):
            self.network.at(self.updates.randint(0, self.peace_at), self._update)

    def _update(self) -> None:
        version = self.topology.topology.version + 1
        kind = self.updates.choice(("other bounds", "a role more", "a role less"))
        if kind == "a role less" and len(self.roles) > 1:
            gone = self.updates.choice(sorted(self.roles))
            self.roles = {name: bounds for name, bounds in self.roles.items() if name != gone}
        elif kind == "a role more" and "cache" not in self.roles:
            self.roles = {**self.roles, "cache": (1, 2)}
        else:
            kind, name = "other bounds", self.updates.choice(sorted(self.roles))
            low, high = self.roles[name]
            self.roles = {**self.roles, name: (low, high + 1)}
        self.network.happened[kind] += 1
        self.topology = self._signed(version=version)
        self._deliver()
        if kind == "a role more":
            self.network.boot("cache", self.topology)

    def _deliver(self) -> None:
        live = self.network.live()
        if live:
            self.network.push(self.updates.choice(live), self.topology)

    def _see_to_it(self) -> None:
        newest, live = self.topology.topology, self.network.live()
        contradicted = [
            n
            for n in live
            if n.member.topology.version == newest.version
            and (n.member.blocked is not None or n.member.topology.digest != newest.digest)
        ]
        if contradicted:
            self.network.happened["equivocation ends"] += 1
            self.topology = self._signed(version=newest.version + 1)
            self.network.push(contradicted[0], self.topology)
        elif all(n.member.topology.digest != newest.digest for n in live):
            self._deliver()


@cache
def _topology(
    roles: tuple[tuple[str, tuple[int, int]], ...], document: tuple[tuple[str, Any], ...]
) -> SignedTopology:
    return signed_topology(dict(roles), **dict(document))
