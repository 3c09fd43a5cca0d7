"""Who runs next: everybody in turns, nobody for ever, never more than there are slots."""

import asyncio

import pytest

from sojourn_server.rpc.fair import LEAST_SHARE, FairQueue, Line


class Call:
    """A call that runs until it is told to end."""

    def __init__(self, queue: FairQueue, line: Line, now: float = 0.0) -> None:
        self.queue, self.line = queue, line
        self.runs = queue.enter(line, now)
        self.task = None if self.runs else asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        await self.queue.wait(self.line)
        self.runs = True

    def end(self) -> None:
        assert self.runs
        self.queue.leave(self.line)
        self.runs = False


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_call_that_is_alone_runs_without_a_pause() -> None:
    queue, line = FairQueue(2), Line()
    assert queue.enter(line, 0.0)
    queue.leave(line)
    assert queue.running == 0
    assert line.idle


async def test_a_newcomer_is_next_whoever_else_has_a_long_line() -> None:
    queue, noisy, quiet = FairQueue(2), Line(), Line()
    crowd = [Call(queue, noisy) for _ in range(100)]
    await settled()
    assert [call.runs for call in crowd[:3]] == [True, True, False]
    one = Call(queue, quiet)
    await settled()
    assert queue.running == 2
    crowd[0].end()
    crowd[1].end()
    await settled()
    # One of the two free slots at the most goes to the crowd.
    assert one.runs
    one.end()
    for call in crowd[2:]:
        await settled()
        call.end()
    assert (queue.running, queue.waiting) == (0, 0)


async def test_within_a_line_first_come_first_served() -> None:
    queue, line = FairQueue(1), Line()
    calls = [Call(queue, line) for _ in range(5)]
    for number, call in enumerate(calls):
        await settled()
        assert [each.runs for each in calls] == [each is call for each in calls], number
        call.end()


async def test_lines_are_served_in_turns() -> None:
    queue, lines = FairQueue(1), [Line() for _ in range(3)]
    first = Call(queue, lines[0])
    calls = {line: [Call(queue, line) for _ in range(4)] for line in lines}
    await settled()
    order: list[int] = []
    first.end()
    for _ in range(12):
        await settled()
        number, call = next(
            (number, call) for number, line in enumerate(lines) for call in calls[line] if call.runs
        )
        order.append(number)
        call.end()
    assert [set(order[at : at + 3]) for at in range(0, 12, 3)] == [{0, 1, 2}] * 4


async def test_beside_others_nobody_takes_more_than_its_share() -> None:
    queue, lines = FairQueue(64), [Line() for _ in range(10)]
    for line in lines:
        assert queue.enter(line, 0.0)
    assert queue.share == LEAST_SHARE
    crowd = [Call(queue, lines[0]) for _ in range(50)]
    await settled()
    assert lines[0].running == LEAST_SHARE
    assert queue.running == LEAST_SHARE + 9
    # Slots stay free for the others, who need not wait.
    assert queue.enter(lines[1], 0.0)
    for call in crowd:
        if call.task is not None:
            call.task.cancel()


async def test_alone_it_takes_all_and_so_it_does_when_others_have_gone() -> None:
    queue, noisy = FairQueue(64), Line()
    others = [Line() for _ in range(9)]
    for line in others:
        assert queue.enter(line, 0.0)
        queue.leave(line)
    crowd = [Call(queue, noisy, 0.5) for _ in range(100)]
    await settled()
    assert noisy.running == LEAST_SHARE
    # More than a window later nobody else has called.
    crowd += [Call(queue, noisy, 2.5)]
    crowd[0].end()
    await settled()
    assert noisy.running == 64


async def test_who_gives_up_leaves_its_place() -> None:
    queue, line = FairQueue(1), Line()
    first, second, third = (Call(queue, line) for _ in range(3))
    await settled()
    assert queue.waiting == 2
    assert second.task is not None
    second.task.cancel()
    await settled()
    assert queue.waiting == 1
    first.end()
    await settled()
    assert third.runs
    assert not second.runs


async def test_who_gives_up_as_its_turn_comes_gives_the_slot_back() -> None:
    queue, line = FairQueue(1), Line()
    first, second, third = (Call(queue, line) for _ in range(3))
    await settled()
    first.end()
    assert second.task is not None
    second.task.cancel()
    await settled()
    assert not second.runs
    assert third.runs
    third.end()
    assert queue.running == 0


async def test_the_last_place_given_up_is_not_served() -> None:
    queue, line = FairQueue(1), Line()
    first, second = Call(queue, line), Call(queue, line)
    await settled()
    assert second.task is not None
    second.task.cancel()
    first.end()
    await settled()
    assert (queue.running, queue.waiting) == (0, 0)


async def test_all_who_wait_can_be_sent_away() -> None:
    queue, lines = FairQueue(1), [Line() for _ in range(3)]
    running = Call(queue, lines[0])
    waiting = [Call(queue, line) for line in lines for _ in range(2)]
    await settled()
    queue.dismiss(lambda: RuntimeError("closed"))
    for call in waiting:
        assert call.task is not None
        with pytest.raises(RuntimeError, match="closed"):
            await call.task
    assert (queue.running, queue.waiting) == (1, 0)
    running.end()
    assert queue.running == 0
