"""What a simulated program logs, and what is known of each event: whether it was accepted, and may be lost."""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from runstream_schemas.events import (
    ArtifactInlined,
    ArtifactLogged,
    Event,
    MetricLogged,
    ParamsLogged,
    RowsLogged,
    RunStarted,
    TagsSet,
    encode_event,
)
from support.stores import run_id

__all__ = ["Effect", "Ledger", "encoded", "make_event"]

_RUNS = 3


class Effect(NamedTuple):
    """What an event leaves in a store: its kind, and the number that tells it from all others."""

    kind: str
    number: int


@dataclass
class Ledger:
    """What is known of one journal."""

    producer: str
    tried: dict[int, tuple[Effect, bytes]] = field(default_factory=dict)
    """By seq, every event that a call began to log."""
    accepted: set[int] = field(default_factory=set)
    """Seqs whose call returned: they are journaled."""
    segments: dict[int, int] = field(default_factory=dict)
    """By accepted seq, the index of the segment that it lies in."""
    synced: int = 0
    """Seqs below this one are synced, as the journal says."""
    losable: set[int] = field(default_factory=set)
    """Accepted, and not synced when the power was cut."""
    dropped: dict[str, int] = field(default_factory=dict)
    """By reason, as the program counted them."""
    uncertain: int = 0
    """Drops that were being counted when the process was killed."""
    cut: bool = False
    """The power was cut since the journal was made."""
    rotted: bool = False
    """Bits of it were flipped."""

    def lose_power(self, known: Iterable[int]) -> None:
        """Note what may be gone now; what a store knows must stay."""
        self.cut = True
        self.losable |= {seq for seq in self.accepted if seq >= self.synced} - set(known)

    def must_be_there(self) -> set[int]:
        """Seqs that nothing excuses the loss of."""
        return set() if self.rotted else self.accepted - self.losable


def make_event(choice: random.Random, number: int, now: int) -> tuple[Effect, Event | bytes, bytes]:
    """An event, encoded or not, and the bytes to stage for it, if there are any."""
    run = run_id(1 + choice.randrange(_RUNS))
    kind = choice.choices(
        ["metric", "row", "param", "tag", "start", "inline", "staged", "poison"], [6, 6, 2, 2, 1, 1, 1, 1]
    )[0]
    text = f"{number}," * choice.choice([1, 5, 50, 800])
    effect = Effect(kind, number)
    if kind == "metric":
        return effect, MetricLogged(run, "loss", float(number), number % 7, now // 1_000_000), b""
    if kind == "row":
        columns = choice.choice([["n", "text"], ["n", "text"], ["text", "n"], ["n", "text", f"c{choice.randrange(3)}"]])
        row = [number if name == "n" else text for name in columns]
        return effect, RowsLogged(run, choice.choice(["predictions", "a/b"]), columns, [row]), b""
    if kind == "param":
        return effect, ParamsLogged(run, {f"p{number}": text, "shared": str(number)}), b""
    if kind == "tag":
        return effect, TagsSet(run, {"last": str(number)}), b""
    if kind == "start":
        return effect, RunStarted(run, "0", now // 1_000_000, f"run {number}"), b""
    content = text.encode()
    if kind == "inline":
        return effect, ArtifactInlined(run, f"made/{number}.txt", content), b""
    if kind == "staged":
        digest = hashlib.sha256(content).hexdigest()
        return effect, ArtifactLogged(run, f"files/{number}.txt", digest, len(content)), content
    return effect, b"\xc1 no event " + text.encode(), b""


def encoded(event: Event | bytes) -> bytes:
    """The event's body."""
    return event if isinstance(event, bytes) else encode_event(event)
