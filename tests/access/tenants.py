"""Who the sessions of the matrix belong to, and what is in them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from sojourn.v1 import (
    app_service_pb2,
    history_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from sojourn_server.rpc.methods import Method, methods
from tests.access.requests import Target

METHODS = {method.name: method for method in methods()}
Metadata = tuple[tuple[str, str], ...]


class Line:
    """A channel to a server, as somebody.

    Args:
        channel: To the server.
        metadata: The caller's credential.
    """

    def __init__(self, channel: Any, metadata: Metadata) -> None:
        self._channel = channel
        self._metadata = metadata

    async def ask(self, request: Any, answer: Any) -> Any:
        """Make a call that must succeed."""
        method = METHODS[type(request).__name__.removesuffix("Request")]
        raw, trailers = await self.send(method, request.SerializeToString())
        assert not trailers, trailers
        answer.ParseFromString(raw)
        return answer

    async def send(self, method: Method, *raw: bytes) -> tuple[bytes, tuple[Any, ...]]:
        """Send bytes, and take whatever comes.

        Args:
            method: Which.
            raw: The request; of a stream of them, one after the other.

        Returns:
            The answer, or nothing and the code, text and trailers of the refusal, but for
            the correlation id, which is another one each time. Of a watch it is the first
            answer, of an export all of them: `split` takes them apart.
        """
        try:
            if method.requests_stream:
                upload = self._channel.stream_unary(method.path)
                return await upload(iter(raw), metadata=self._metadata, timeout=20), ()
            if method.responses_stream:
                stream = self._channel.unary_stream(method.path)
                call = stream(raw[0], metadata=self._metadata, timeout=20)
                if method.name == "ExportSessions":
                    return b"".join([_framed(part) async for part in call]), ()
                first = await call.read()
                call.cancel()
                return b"" if first is grpc.aio.EOF else first, ()
            unary = self._channel.unary_unary(method.path)
            return await unary(raw[0], metadata=self._metadata, timeout=20), ()
        except grpc.aio.AioRpcError as error:
            return b"", (
                error.code().name,
                error.details(),
                *(
                    (key, value)
                    for key, value in error.trailing_metadata() or ()
                    if key != "x-sojourn-correlation-id"
                ),
            )


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(4) + part


def split(method: Method, raw: bytes) -> list[bytes]:
    """The messages of an answer."""
    if method.name != "ExportSessions":
        return [raw]
    parts = []
    while raw:
        end = 4 + int.from_bytes(raw[:4])
        parts.append(raw[4:end])
        raw = raw[end:]
    return parts


def canary() -> str:
    """A text that is nowhere else."""
    return f"cnry{secrets.token_hex(8)}"


class Wanted(NamedTuple):
    """A session to make, and what of it a call needs."""

    name: str
    turn: bool = True
    page: bool = True


async def furnish(
    line: Line, app: str, user: str, wanted: Sequence[Wanted], secret: str
) -> list[Target]:
    """Make sessions of a user with something in everything, and tokens for them.

    Args:
        line: Somebody who may.
        app: Whose app.
        user: Whose sessions.
        wanted: Which sessions.
        secret: Stands in every text that is written.
    """
    parent = await line.ask(
        session_service_pb2.CreateSessionRequest(
            app=app, session=session_service_pb2.NewSession(user=user, session_id=f"{secret}-up")
        ),
        session_service_pb2.CreateSessionResponse(),
    )
    key: dict[str, Any] = {"app": app, "user": user}
    parent_turn = await _turn(line, session_pb2.SessionRef(uid=parent.session.uid, **key), secret)
    new = [
        session_service_pb2.NewSession(
            user=user,
            session_id=each.name,
            labels={secret: f"{secret}-label"},
            metadata={f"{secret}-key": f'"{secret}"'},
            parent_uid=parent.session.uid,
            state=session_pb2.StatePatches(
                session=session_pb2.StatePatch(set={f"{secret}-state": f'"{secret}"'})
            ),
        )
        for each in wanted
    ]
    made = await line.ask(
        session_service_pb2.BatchCreateSessionsRequest(app=app, sessions=new),
        session_service_pb2.BatchCreateSessionsResponse(),
    )
    patch = session_pb2.StatePatch(set={f"{secret}-shared": f'"{secret}"'})
    await line.ask(
        app_service_pb2.UpdateStateRequest(patch=patch, **key),
        app_service_pb2.UpdateStateResponse(),
    )
    listed = await line.ask(
        session_service_pb2.ListSessionsRequest(page_size=1, **key),
        session_service_pb2.ListSessionsResponse(),
    )

    async def fill(session: Any, what: Wanted) -> Target:
        ref = session_pb2.SessionRef(session_id=session.key.session_id, **key)
        message_id = f"{secret}-{session.key.session_id}"
        appended = await line.ask(
            history_service_pb2.AppendMessagesRequest(
                session=ref,
                messages=[
                    message_pb2.NewMessage(
                        role="user", content=secret, message_id=f"{message_id}{end}"
                    )
                    for end in ("", "-2")
                ],
            ),
            history_service_pb2.AppendMessagesResponse(),
        )
        page, turn_token = history_service_pb2.ListMessagesResponse(), ""
        if what.page:
            asked = history_service_pb2.ListMessagesRequest(session=ref, page_size=1)
            await line.ask(asked, page)
        if what.turn:
            turn_token = (await _turn(line, ref, secret)).turn_token
        return Target(
            app=app,
            user=user,
            session_id=session.key.session_id,
            uid=session.uid,
            parent_uid=parent.session.uid,
            etag=appended.session.etag,
            turn_token=turn_token,
            parent_turn_token=parent_turn.turn_token,
            sessions_page=listed.next_page_token,
            messages_page=page.next_page_token,
            resume_token=listed.resume_token,
            request_id=f"r-{what.name}",
            message_id=message_id,
            label=(secret, f"{secret}-label"),
        )

    # Not all at once: a real client would not either.
    found: list[Target] = []
    pairs = list(zip(made.sessions, wanted, strict=True))
    for begin in range(0, len(pairs), 50):
        chunk = pairs[begin : begin + 50]
        found += await asyncio.gather(*(fill(*pair) for pair in chunk))
    return found


async def plant(line: Line, app: str, user: str, names: Sequence[str]) -> None:
    """Make more sessions of a user, with the ids of somebody else's."""
    new = [session_service_pb2.NewSession(user=user, session_id=name) for name in names]
    for begin in range(0, len(new), 1_000):
        await line.ask(
            session_service_pb2.BatchCreateSessionsRequest(
                app=app, sessions=new[begin : begin + 1_000]
            ),
            session_service_pb2.BatchCreateSessionsResponse(),
        )


async def scar(line: Line, app: str, user: str, secret: str) -> None:
    """Sessions that ended, were reset and failed, each for reasons that nobody else may read."""
    for what in ("ended", "reset", "failed"):
        ref = session_pb2.SessionRef(app=app, user=user, session_id=f"{secret}-{what}")
        await line.ask(
            history_service_pb2.AppendMessagesRequest(session=ref, create_if_missing=True),
            history_service_pb2.AppendMessagesResponse(),
        )
        match what:
            case "ended":
                await line.ask(
                    session_service_pb2.EndSessionRequest(
                        session=ref, reason=f"{secret}-reason", result=f'"{secret}"'
                    ),
                    session_service_pb2.EndSessionResponse(),
                )
            case "reset":
                await line.ask(
                    session_service_pb2.ResetSessionRequest(session=ref, reason=secret),
                    session_service_pb2.ResetSessionResponse(),
                )
            case _:
                turn = await _turn(line, ref, secret)
                await line.ask(
                    turn_service_pb2.EndTurnRequest(
                        app=app,
                        turn_token=turn.turn_token,
                        outcome=turn_service_pb2.EndTurnRequest.OUTCOME_ERROR,
                        error=f"{secret}-error",
                    ),
                    turn_service_pb2.EndTurnResponse(),
                )


async def everything(line: Line, app: str, user: str | None) -> tuple[int, list[bytes]]:
    """All that there is of a user, or of an app, and the newest revision of the app.

    What passes by itself, the time that is left, is left out.
    """
    found: list[bytes] = []
    token, revision = "", 0
    while True:
        page = await line.ask(
            session_service_pb2.ListSessionsRequest(
                app=app,
                user=user,
                view=session_pb2.SESSION_VIEW_FULL,
                page_size=1_000,
                page_token=token,
            ),
            session_service_pb2.ListSessionsResponse(),
        )
        token, revision = page.next_page_token, page.revision
        for session in page.sessions:
            session.ClearField("time_left")
            found.append(session.SerializeToString(deterministic=True))
            if session.message_count:
                ref = session_pb2.SessionRef(app=app, uid=session.uid)
                messages = await line.ask(
                    history_service_pb2.ListMessagesRequest(session=ref),
                    history_service_pb2.ListMessagesResponse(),
                )
                found += [each.SerializeToString(deterministic=True) for each in messages.messages]
        if not token:
            return revision, found


def answer_type(method: Method) -> type[Message]:
    """What a method answers with."""
    types: Any = method.request.DESCRIPTOR.file.message_types_by_name
    return GetMessageClass(types[f"{method.name}Response"])


def reason_of(refused: tuple[Any, ...]) -> str:
    """The reason of a refusal; empty: it was none."""
    for part in refused:
        if isinstance(part, tuple) and part[0] == "grpc-status-details-bin":
            status, info = Status.FromString(part[1]), ErrorInfo()
            assert status.details[0].Unpack(info)
            return str(info.reason)
    return ""


async def _turn(line: Line, ref: Any, secret: str) -> Any:
    request = turn_service_pb2.BeginTurnRequest(session=ref, holder=f"{secret}-holder")
    request.lease.seconds = 3_600
    return await line.ask(request, turn_service_pb2.BeginTurnResponse())
