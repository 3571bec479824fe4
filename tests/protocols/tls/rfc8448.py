"""The traces of RFC 8448 (sections 3, 5, 6 and 7) as named octet strings.

trace = load(3)
trace.message("client", "ClientHello")            the first whole ClientHello
trace.secret("server", "tls13 c hs traffic")      what a derivation gave
trace.records("server")                           the sealed or plain records of one side, in order
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors" / "rfc8448.txt"


@dataclass(frozen=True)
class Step:
    """One step of a trace: who does what, and the octet strings that belong to it."""

    actor: str
    title: str
    octets: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """One section of RFC 8448."""

    steps: tuple[Step, ...]

    def find(self, actor: str, title: str, name: str, index: int = 0) -> bytes:
        """The octets `name` of the index-th step of `actor` whose title begins with `title`, and that has them."""
        found = [
            step.octets[name]
            for step in self.steps
            if step.actor == actor and step.title.startswith(title) and name in step.octets
        ]
        return found[index]

    def message(self, actor: str, name: str, index: int = 0) -> bytes:
        """A whole handshake message."""
        return self.find(actor, "construct a", name, index)

    def secret(self, label: str, actor: str = "server") -> bytes:
        """What deriving `label` ("tls13 c hs traffic") gave."""
        return self.find(actor, f'derive secret "{label}"', "expanded")

    def private(self, actor: str, index: int = 0) -> bytes:
        """An ephemeral private key."""
        return self.find(actor, "create an ephemeral", "private key", index)

    def public(self, actor: str, index: int = 0) -> bytes:
        """An ephemeral public key."""
        return self.find(actor, "create an ephemeral", "public key", index)

    def records(self, actor: str) -> list[bytes]:
        """The complete records of one side, in order."""
        return [
            step.octets["complete record"]
            for step in self.steps
            if step.actor == actor and "complete record" in step.octets
        ]

    def payloads(self, actor: str) -> list[bytes]:
        """What the records of one side carry, in order."""
        return [step.octets["payload"] for step in self.steps if step.actor == actor and "payload" in step.octets]


@lru_cache
def load(section: int) -> Trace:
    """The trace of one section."""
    steps: list[Step] = []
    wanted = False
    for line in VECTORS.read_text().splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("  "):
            if wanted:
                name, _, octets = line.strip().partition(" =")
                steps[-1].octets[name] = bytes.fromhex(octets)
            continue
        head, _, title = line.partition(": ")
        number, _, actor = head.partition(" ")
        wanted = int(number) == section
        if wanted:
            steps.append(Step(actor, title))
    return Trace(tuple(steps))
