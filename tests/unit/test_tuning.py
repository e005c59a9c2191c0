"""What the sink asks of the interpreter, and that it is given back."""

import asyncio
import gc
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import runstream
from runstream_sink import consumer, tuning
from runstream_sink.queue_source import QueueSource
from runstream_sink.service import open_consumer
from runstream_sink.tuning import collect_garbage, tuned
from support.pipeline import Pipeline


def test_threads_take_turns_more_often_and_all_is_given_back() -> None:
    """Whatever was changed meanwhile, and by whichever of two that overlap."""
    with ExitStack() as first, ExitStack() as second:
        for stack in (first, second):
            stack.enter_context(tuned())
        assert sys.getswitchinterval() < tuning._USUAL_TURN
        collect_garbage(rarely=True)
        assert gc.get_threshold() > tuning._USUALLY
        collect_garbage(rarely=False)
        assert gc.get_threshold() == tuning._USUALLY
        collect_garbage(rarely=True)
        first.close()
    assert gc.get_threshold() == tuning._USUALLY
    assert sys.getswitchinterval() == tuning._USUAL_TURN


def test_garbage_is_collected_rarely_only_behind_a_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HTTP requests leave behind would else gather while little is logged."""
    monkeypatch.setattr(consumer, "_DELIVERY", 4096)
    pipeline = Pipeline(tmp_path)
    runstream.configure(stream=pipeline.stream)
    with runstream.start_run() as run:
        for step in range(200):
            run.log_metric("m", step, step=step)
    runstream.close()

    async def thresholds() -> list[bool]:
        """Behind each step, whether they were raised."""
        async with open_consumer(pipeline.options, QueueSource(pipeline.queue)) as (one, _):
            raised = []
            while await one.step():
                raised.append(gc.get_threshold() > tuning._USUALLY)
            return raised

    *behind, last = asyncio.run(thresholds())
    assert behind
    assert all(behind)
    assert not last
    assert gc.get_threshold() == tuning._USUALLY
