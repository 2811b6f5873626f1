"""The receiver in an event loop of asyncio."""

import asyncio
import threading
import time

import nlring
import pytest
from events import begin_flows, enter_namespace


@pytest.fixture(autouse=True)
def namespace():
    enter_namespace()


async def count(receiver, wanted):
    seen = 0
    async for batch in receiver:
        assert not isinstance(batch, nlring.Gap)
        seen += len(batch)
        if seen >= wanted:
            return seen


@pytest.mark.parametrize("backend", ["auto", "recvmmsg"])
@pytest.mark.parametrize("wait", ["auto", "prompt", 0.002])
def test_each_event_comes_once(wait, backend):
    async def follow():
        with nlring.Receiver("conntrack", wait=wait, backend=backend) as receiver:
            counting = asyncio.create_task(count(receiver, 3000))
            for first_port in range(1, 3001, 100):
                begin_flows(100, first_port)
                await asyncio.sleep(0.001)
            assert await asyncio.wait_for(counting, 20) == 3000
            assert receiver.statistics.received == 3000

    asyncio.run(follow())


def test_a_batch_ends_by_its_age_without_a_further_event():
    async def follow():
        with nlring.Receiver("conntrack", batch_seconds=0.1) as receiver:
            counting = asyncio.create_task(count(receiver, 5))
            await asyncio.sleep(0.01)
            begin_flows(5)
            assert await asyncio.wait_for(counting, 10) == 5

    asyncio.run(follow())


def test_other_tasks_run_while_it_waits_and_the_loop_is_idle():
    async def follow():
        with nlring.Receiver("conntrack") as receiver:
            counting = asyncio.create_task(count(receiver, 1))
            used = time.process_time()
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert time.process_time() - used < 0.1, "it does not poll"
            begin_flows(1)
            assert await asyncio.wait_for(counting, 10) == 1

    asyncio.run(follow())


def test_a_cancelled_task_leaves_the_receiver_usable():
    async def follow():
        with nlring.Receiver("conntrack") as receiver:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(count(receiver, 1), 0.05)
            begin_flows(5)
            assert await asyncio.wait_for(count(receiver, 5), 10) == 5

    asyncio.run(follow())


def test_stop_ends_the_iteration():
    async def follow():
        with nlring.Receiver("conntrack") as receiver:
            threading.Timer(0.1, receiver.stop).start()
            return [batch async for batch in receiver]

    assert asyncio.run(asyncio.wait_for(follow(), 10)) == []


def test_a_receiver_that_was_started_without_a_descriptor_says_so():
    async def follow():
        with nlring.Receiver("conntrack") as receiver:
            receiver.poll()
            async for _ in receiver:
                pass

    with pytest.raises(ValueError, match="before the first batch"):
        asyncio.run(follow())
