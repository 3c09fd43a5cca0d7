"""A voice agent whose memory is reset, also while it is thinking.

After VAAS' "Session Management API": one endpoint, `POST /reset-memory`, drops the table of the
conversation. The document names what can go wrong there: a reset races with a message that is being
processed, it may be done by half, nobody is told, and nothing is kept for those who need it. Here a
reset is one call: all or nothing, a new generation that late writes cannot reach, a backup where
one is wanted, a change that watchers see, and no byte left behind.
"""

from __future__ import annotations

from common import Server, run
from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    ChangeCause,
    Message,
    NewMessage,
    Precondition,
    SessionChange,
    errors,
)

AGENT_MEMORY_SIZE = 20
CARD = "my card ends in 4242"


class Memory:
    """The document's `Memory`: what an agent remembers of a conversation, in a session."""

    def __init__(self, session: AsyncSessionHandle) -> None:
        self.session = session

    async def insert_pair(self, user_message: str, assistant_message: str) -> None:
        """Both messages or none."""
        await self.session.append_many(
            [NewMessage("user", user_message), NewMessage("assistant", assistant_message)]
        )

    async def get_all(self) -> list[Message]:
        """Everything, oldest first."""
        return await self.session.messages()

    async def get_latest(self, n: int = AGENT_MEMORY_SIZE) -> list[Message]:
        """What goes into the model's context."""
        return await self.session.messages(last=n)

    async def reset_memory(self, reason: str, *, backup: str = "") -> None:
        """`POST /reset-memory`: the same session, empty, and usable at once."""
        done = await self.session.reset(reason=reason, backup_session_id=backup)
        print(f"reset: {done.messages_cleared} messages cleared, ", end="")
        print(f"now generation {done.session.generation}; gone from the files: {done.scrubbed}")


async def conversation(memory: Memory) -> None:
    """Insert records and read them back."""
    for number in range(12):
        await memory.insert_pair(f"Question {number}", f"Answer {number}")
    await memory.insert_pair(f"Please note: {CARD}", "Noted.")
    everything, latest = await memory.get_all(), await memory.get_latest()
    print(f"memory: {len(everything)} messages, {len(latest)} in the context")
    one = everything[0]
    assert (await memory.session.message(one.message_id)) == one


async def race(client: AsyncClient, memory: Memory) -> None:
    """Race 1 to 3 of the document: a reset comes while the agent is processing a message."""
    session = memory.session
    button = Memory(await client.attach(session.session_id, user=session.user))
    # Check the agent's state first: who wants to wait for it is told who is at work.
    async with session.turn(holder="voice-agent"):
        try:
            await button.session.reset(if_idle=True)
        except errors.NotIdleError as busy:
            print(f"if_idle: refused, {busy.metadata['holder']} is at work")
    generation = session.info.generation
    try:
        async with session.turn(holder="voice-agent") as turn:
            await button.reset_memory("the user asked for a clean start")
            await turn.append("assistant", f"As you said, {CARD}…")
    except errors.TurnSupersededError as late:
        print(f"late answer refused: {late.reason}")
    try:
        # Without a turn, an agent names the generation that it has read.
        await session.append("assistant", CARD, precondition=Precondition(generation=generation))
    except errors.GenerationChangedError as late:
        print(f"late answer refused: {late.reason}")
    print(f"memory after the race: {len(await memory.get_all())} messages")


async def story(client: AsyncClient, server: Server) -> None:
    """A user tells a secret, and wants it forgotten."""
    session = await client.attach("kitchen", user="u-7", labels={"agent": "groq"})
    memory = Memory(session)
    async with client.sessions.watch(user="u-7") as watch:
        await conversation(memory)
        await race(client, memory)
        # Inform users: whoever watches hears of the reset.
        async for change in watch.changes():
            if isinstance(change, SessionChange) and change.cause is ChangeCause.RESET:
                print(f"watchers saw: {change.cause} of {change.session.session_id}")
                break

    # Nothing of it is left, in any file; the session is the same one, and goes on.
    if server.files is not None:
        files = list(server.files.iterdir())
        kept = [file.name for file in files if CARD.encode() in file.read_bytes()]
        print(f"files that hold the secret: {kept} of {len(files)}")
    await memory.insert_pair("Hello?", "Hello! How can I help?")
    info = await session.refresh()
    print(f"{info.session_id}, same uid: {info.uid == session.uid}, {info.message_count} messages,")
    print(f"  last reset because {info.last_reset_reason!r}")

    # Backup strategies: keep a copy under another id, then reset.
    await memory.reset_memory("a new topic", backup="kitchen-before")
    copy = await client.sessions.get("kitchen-before", user="u-7", last_messages=1)
    print(f"backup: {copy.message_count} messages, the last is {copy.messages[0].content!r}")

    # Audit trails: who reset what, when.
    resets = [
        entry
        for entry in await client.admin.audit(uid=session.uid).to_list()
        if entry.cause is ChangeCause.RESET
    ]
    print(f"audit: {len(resets)} resets, by {resets[0].actor}")


if __name__ == "__main__":
    run(story, __doc__, app="vaas")
