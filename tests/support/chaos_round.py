"""One round of chaos on a real topic: programs, their shipper and two sinks, while a seed's faults come and go.

Then everything heals, the programs end, and all that they logged must be in the store exactly once: as they say
themselves, as an undisturbed replay of the topic says, and, where the journals were kept, as these say as a queue.
"""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer

from runstream.shipping.leader import is_led
from runstream.shipping.process import IDLE_VARIABLE
from runstream.shipping.progress import Progress
from runstream_schemas.errors import RunstreamError
from runstream_schemas.follower import Follower
from runstream_schemas.streams import QueueStream
from runstream_sink import query
from runstream_sink.config import resolve
from runstream_sink.kafka.positions import parse_position
from runstream_sink.missing import find_missing
from runstream_sink.service import Replayed, replay
from runstream_sink.verify.run import verify
from support import chaos_producer, chaos_sink
from support.chaos_faults import FAULTS, Agenda, Fault, plan, signal_shipper
from support.crash_round import SHARED, Round, Victim
from support.kafka import PROXIED, KafkaCluster, wait_for
from support.pipeline import Pipeline
from support.shipping import JournalDir
from support.toxiproxy import Toxiproxy

__all__ = ["DEADLINE", "ChaosRound"]

DEADLINE: Final = 120.0
"""Seconds that anything may take once all faults are over."""
_LOG_LINES: Final = 40
_KILLED_PROGRAMS: Final = 3
_SURPRISES: Final = ("Traceback", "never retrieved", "was destroyed", "shipping failed")
"""What is in a log only after an error that nobody has foreseen."""


class TopicPipeline(Pipeline):
    """Like a queue's, with a topic behind a journal directory as the stream."""

    def __init__(self, root: Path, journals: JournalDir) -> None:
        super().__init__(root)
        self.journals = journals
        self.queue = journals.path
        self.stream = str(journals.stream)
        self.options = resolve(stream=self.stream, store=str(self.store))

    @property
    def environment(self) -> dict[str, str]:
        """Of programs and sinks."""
        return super().environment | self.journals.environment

    def replay_journals(self, name: str) -> tuple[str, Replayed]:
        """Apply what was kept aside, without the topic; see `replay`."""
        fresh = Pipeline(self.root / name)
        replayed = asyncio.run(replay(fresh.options._replace(stream=QueueStream(self.queue)), lambda _: None))
        return fresh.digest(), replayed


class ChaosRound(Round):
    """A round on a cluster whose brokers are reached through toxiproxy; other rounds may follow on the same one."""

    pipeline: TopicPipeline

    def __init__(self, root: Path, seed: int, cluster: KafkaCluster, toxiproxy: Toxiproxy) -> None:
        super().__init__(root, seed)
        self.cluster = cluster
        self.topic = f"chaos-{seed}-{uuid.uuid4().hex[:8]}"
        self.schedule: list[str] = []
        self.keeps_journals = self._choice.random() < 0.5
        """Whether nothing is freed, so that the journals can be applied without the topic."""
        self._small_messages = self._choice.random() < 0.5
        """Whether the topic takes so little in one message that large rows come in chunks."""
        self._toxiproxy = toxiproxy
        self._seed = seed
        self._journals = JournalDir(root / "journals", cluster.stream(self.topic, PROXIED), **self._settings())
        self.pipeline = TopicPipeline(root, self._journals)
        self._programs: list[Victim] = []
        self._sinks: list[Victim] = []
        self._last_words: list[bytes] = []
        if self.keeps_journals:
            (self._journals.path / "consumers" / "aside").mkdir(parents=True)

    @property
    def sinks(self) -> list[Victim]:
        """Those that run: one works, the other stands by."""
        return self._sinks

    def replace_sink(self, at: int) -> None:
        """Kill one and start another."""
        self.kills += 1
        code = self._sinks[at].kill()
        self._listen(self._sinks[at])
        if code != -signal.SIGKILL:
            self._troubles.append(f"a sink ended by itself, with {code}\n")
        self._sinks[at] = self._start_chaos_sink()

    def shipper(self) -> int | None:
        """The process id of the shipper that leads."""
        return self._journals.status.pid if self._journals.has_shipper() else None

    def play(self, seconds: float) -> None:
        """Let the faults come and go, then heal everything and wait until all is applied and everybody has ended."""
        try:
            self._heal()
            if self._small_messages:
                wait_for(self.cluster.create_topic(self.topic, 3, config={"max.message.bytes": "6000"}))
            self._sinks = [self._start_chaos_sink() for _ in range(2)]
            self._programs = [self._start_program(threads) for threads in (2, 2, 1)]
            self._began()
            self._disturb(plan(self._seed, seconds))
            self._heal()
            self._end_programs()
            self._wait("everything is shipped and the shipper gone", self._is_shipped)
            self._wait("everything is applied", self._is_applied)
            self._end_sinks()
        finally:
            self._clean_up()

    def check(self) -> None:
        """Compare the store with what was acknowledged, and with undisturbed replays."""
        assert not self._troubles, "".join(self._troubles)
        assert self.pipeline.drain().events == 0, "something was left for another sink"
        assert self.pipeline.ask(query.counts).dead_letters == 0
        assert self.pipeline.ask(find_missing) == []
        assert self.pipeline.ask(query.list_losses) == []
        self.check_facts()
        digest = self.pipeline.digest()
        replayed = self.pipeline.replay("replayed")
        assert replayed[1].missing == []
        assert replayed[0] == digest
        if self.keeps_journals:
            assert self.pipeline.replay_journals("aside")[0] == digest
        report = self.pipeline.ask(verify, self.pipeline.store / "artifacts")
        assert report.ok, report.findings

    def forget(self) -> None:
        """Delete the topic and all files."""
        wait_for(self.cluster.delete_topic(self.topic))
        shutil.rmtree(self.pipeline.root)

    def run_all(self, seconds: float) -> None:
        """All of it; an error says what is known of everybody, and how to run the round again."""
        try:
            self.play(seconds)
            self.check()
        except BaseException as error:
            error.add_note(f"{self.state()}\nagain: make chaos SEED={self._seed}")
            raise
        self.forget()

    def state(self) -> str:
        """What is known of everybody, for whoever looks for the cause."""
        sinks = [b"".join(sink.lines[-_LOG_LINES:]).decode(errors="replace") for sink in self._sinks]
        brokers = [f"broker {node.number}:\n{node.tail()}" for node in self.cluster.nodes.values()]
        status = self._journals.path / "shipper.json"
        return "\n".join(
            [
                f"topic {self.topic}, journals {self._journals.path}, kept: {self.keeps_journals}",
                f"small messages: {self._small_messages}",
                *self.schedule,
                f"shipper.json: {status.read_text() if status.exists() else 'none'}",
                f"shipper.log:\n{_tail(self._journals.log())}",
                f"sinks that have ended:\n{_tail(b''.join(self._last_words).decode(errors='replace'))}",
                *(f"sink:\n{lines}" for lines in sinks),
                *brokers,
            ]
        )

    def _settings(self) -> dict[str, str]:
        """Of programs and their shipper."""
        return {
            IDLE_VARIABLE: "0.5",
            "RUNSTREAM_KAFKA_PARTITIONS": "3",
            "RUNSTREAM_KAFKA_REPLICATION": "3",
            "RUNSTREAM_KAFKA_COMPRESSION": self._choice.choice(["zstd", "lz4", "none"]),
        }

    def _start_chaos_sink(self) -> Victim:
        arguments = self.pipeline.stream, str(self.pipeline.store), "standby"
        return Victim(Path(chaos_sink.__file__), self.pipeline, *arguments, errors=True)

    def _start_program(self, threads: int) -> Victim:
        name = f"p{self._born}"
        self._born += 1
        return Victim(Path(chaos_producer.__file__), self.pipeline, name, SHARED, str(threads))

    def _began(self) -> None:
        """The programs log, and there is a store to look at."""
        for program in self._programs:
            assert program.wait_for(b'["metric"', DEADLINE), "a program logs nothing"
        self._wait("the store is there", self._has_store)

    def _disturb(self, faults: list[Fault]) -> None:
        """Begin and end faults as planned; the last program is killed now and then, and another one started."""
        agenda = Agenda(self.schedule)
        for fault in faults:
            agenda.add(fault.start, str(fault), partial(self._begin, fault, agenda))
        for _ in range(_KILLED_PROGRAMS):
            agenda.add(self._choice.uniform(0.5, faults[-1].start), "kill a program", self._replace_program)
        agenda.run()

    def _begin(self, fault: Fault, agenda: Agenda) -> None:
        end = FAULTS[fault.kind](self, random.Random(fault.seed))
        agenda.add(agenda.now + fault.seconds, f"end of: {fault.kind}", end)

    def _replace_program(self) -> None:
        program = self._programs.pop()
        program.kill()
        self.kills += 1
        self._collect(program)
        self._programs.append(self._start_program(1))

    def _heal(self) -> None:
        for sink in self._sinks:
            sink.signal(signal.SIGCONT)
        signal_shipper(self.shipper(), signal.SIGCONT)
        self._toxiproxy.reset()
        wait_for(self.cluster.restore())

    def _end_programs(self) -> None:
        for program in self._programs:
            assert program.wait_for(b'["metric"', DEADLINE), "a program logs nothing"
            program.signal(signal.SIGTERM)
            code = program.wait(DEADLINE)
            assert code == 0, f"a program ended with {code}"
            self._collect(program)

    def _collect(self, program: Victim) -> None:
        whole = [line for line in program.lines if line.endswith(b"\n")]  # else a kill cut it
        self.acknowledged += map(json.loads, whole)

    def _end_sinks(self) -> None:
        for sink in reversed(self._sinks):
            sink.signal(signal.SIGTERM)
        codes = [sink.wait(DEADLINE) for sink in self._sinks]
        for sink in self._sinks:
            self._listen(sink)
        for path in self.pipeline.root.glob("*.err"):
            self._note_surprises(f"a program, in {path}", path.read_text())
        self._note_surprises(f"the shipper, in {self._journals.path}", self._journals.log())
        assert codes == [0, 0], f"the sinks ended with {codes}"

    def _listen(self, sink: Victim) -> None:
        """A sink has ended; what it logged must be what it expects to happen."""
        self._last_words += sink.lines[-_LOG_LINES:]
        self._note_surprises("a sink", b"".join(sink.lines).decode(errors="replace"))

    def _note_surprises(self, who: str, log: str) -> None:
        found = [line for line in log.splitlines() if any(text in line for text in _SURPRISES)]
        self._troubles += [f"of {who}: {line}\n" for line in found]

    def _clean_up(self) -> None:
        """Leave no process behind; the cluster is healed by whoever uses it next."""
        for victim in (*self._programs, *self._sinks):
            victim.kill()
        deadline = time.monotonic() + DEADLINE
        while is_led(self.pipeline.queue) and time.monotonic() < deadline:
            signal_shipper(self.shipper(), signal.SIGKILL)
            time.sleep(0.05)

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"for {DEADLINE:.0f} s it was not so that {what}"
            time.sleep(0.1)

    def _is_shipped(self) -> bool:
        if is_led(self.pipeline.queue):
            return False
        progress, follower = Progress(self.pipeline.queue), Follower(self.pipeline.queue)
        try:
            progress.load()
            follower.seek(progress.positions)
            return follower.exhausted() and not follower.living()
        finally:
            follower.close()

    def _has_store(self) -> bool:
        with contextlib.suppress(RunstreamError):
            return bool(self.pipeline.ask(query.counts))
        return False

    def _is_applied(self) -> bool:
        held = {int(one.part): parse_position(one.position).offset for one in self.pipeline.ask(query.list_positions)}
        ends = wait_for(self.cluster.insist(lambda _: _ends(self.cluster.bootstrap, self.topic)))
        return all(held.get(partition, 0) >= end for partition, end in ends.items())


async def _ends(bootstrap: str, topic: str) -> dict[int, int]:
    """By partition, the offset that comes next."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
        return {place.partition: end for place, end in ends.items()}
    finally:
        await consumer.stop()


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_LOG_LINES:])
