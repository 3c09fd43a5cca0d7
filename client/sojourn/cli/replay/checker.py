"""Reads played sessions back and compares them with the file, byte for byte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import sojourn
from sojourn import errors
from sojourn.cli.replay.measure import Measures
from sojourn.cli.replay.player import END_REASON, Played, in_parallel
from sojourn.cli.replay.transcripts import JSON_TYPE, Recorded, Transcript

PAGE = 20
"""Few messages a page, so that many histories take several pages."""


@dataclass(slots=True)
class Verdict:
    """What was read back, and what of it was not as it should be."""

    sessions: int = 0
    messages: int = 0
    payload_bytes: int = 0
    mismatches: list[str] = field(default_factory=list)
    """One sentence per difference, naming the session."""


@dataclass(slots=True)
class Checker:
    """Reads sessions back on one client."""

    client: sojourn.AsyncClient
    measures: Measures
    agents: int
    labels: Mapping[str, str]

    async def check(self, played: Iterable[Played], progress: Callable[[int], None]) -> Verdict:
        """Read all back; call `progress` with the number of messages that were just read."""
        verdict = Verdict()
        expected = list(played)

        found: dict[int, list[str]] = {}

        async def work(job: tuple[int, Played]) -> None:
            number, one = job
            texts = await self._check_one(one, verdict, progress)
            found[number] = [f"{one.transcript.session_id}: {text}" for text in texts]

        await in_parallel(enumerate(expected), work, self.agents)
        # In the order of the file, whoever was faster.
        verdict.mismatches += [text for number in sorted(found) for text in found[number]]
        verdict.mismatches += await self._check_list(expected)
        return verdict

    async def _check_list(self, expected: list[Played]) -> list[str]:
        """Compare with what a list, page by page, says of these sessions."""
        listed: Counter[tuple[str, str, sojourn.Status]] = Counter()
        pages = self.client.sessions.list(
            status="any", labels=dict(self.labels), page_size=PAGE
        ).pages()
        end = False
        while not end:
            with self.measures.call("ListSessions"):
                page = await anext(pages)
            listed.update((one.user, one.session_id, one.status) for one in page.items)
            end = not page.next_page_token
        wanted = [(one.transcript, one.transcript.status) for one in expected]
        return [
            f"{one.session_id}: the list has it {count} times as {status.value}"
            for one, status in wanted
            if (count := listed[one.user, one.session_id, status]) != 1
        ]

    async def _check_one(
        self, played: Played, verdict: Verdict, progress: Callable[[int], None]
    ) -> list[str]:
        transcript = played.transcript
        try:
            with self.measures.call("GetSession"):
                session = await self.client.sessions.get(played.ref)
            found: list[sojourn.Message] = []
            pages = self.client.messages.list(session, page_size=PAGE).pages()
            end = False
            while not end:
                with self.measures.call("ListMessages"):
                    page = await anext(pages)
                found += page.items
                progress(len(page.items))
                end = not page.next_page_token
        except (errors.NotFoundError, errors.UidMismatchError) as error:
            return [f"{error.reason}: {error.message}"]
        verdict.sessions += 1
        verdict.messages += len(found)
        verdict.payload_bytes += sum(len(one.payload) for one in found)
        return [
            *_compare_session(session, transcript, self.labels),
            *_compare_messages(found, transcript.messages),
        ]


def _compare_session(
    session: sojourn.Session, wanted: Transcript, labels: Mapping[str, str]
) -> Iterator[str]:
    metrics = session.metrics
    pairs: list[tuple[str, object, object]] = [
        ("user", session.user, wanted.user),
        ("status", session.status, wanted.status),
        ("end reason", session.end_reason, END_REASON),
        ("metadata", dict(session.metadata_json), wanted.extra),
        ("message count", session.message_count, len(wanted.messages)),
        ("request count", metrics.request_count, len(wanted.turns())),
        ("error count", metrics.error_count, 0),
        ("turn", session.turn, None),
        *((f"label {key}", session.labels.get(key), value) for key, value in labels.items()),
    ]
    for name, found, expected in pairs:
        if found != expected:
            yield f"its {name} is {found!r} instead of {expected!r}"


def _compare_messages(found: list[sojourn.Message], wanted: tuple[Recorded, ...]) -> Iterator[str]:
    if len(found) != len(wanted):
        yield f"{len(found)} messages came back instead of {len(wanted)}"
    last = 0
    for number, (message, recorded) in enumerate(zip(found, wanted, strict=False), start=1):
        if message.sequence <= last:
            yield f"message {number}: sequence {message.sequence} comes after {last}"
        last = message.sequence
        for what in _differences(message, recorded):
            yield f"message {number}: {what} differs"


def _differences(message: sojourn.Message, recorded: Recorded) -> Iterator[str]:
    if message.role != recorded.role:
        yield "the role"
    if message.content != recorded.content:
        yield "the content"
    if message.content_type != JSON_TYPE:
        yield "the content type"
    if message.payload != recorded.raw:
        yield "the payload"
    elif json.loads(message.payload) != json.loads(recorded.raw):
        yield "the payload's value"
