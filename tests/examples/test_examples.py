"""The examples do what they say, on every store, and stay small enough to be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests import postgres
from tests.meta.pages import ROOT
from tests.store.backends import BACKENDS

FOLDER: Final = ROOT / "examples"
PATIENCE: Final = 90
LINES: Final = 150

SAID: Final = {
    "adk_dungeon_master": """
made: {'app:world': 'Faerûn'}; the same when read: True
I know 1 messages.
You rolled {'result': 20}.
{'app:world': 'Faerûn', 'last': "You rolled {'result': 20}.", 'rolls': 1, 'user:lucky': True}
sub-agents: ['I know 1 messages.', 'I know 1 messages.']; left: ['campaign']
stale: the session was modified in storage since it was loaded
['user', 'assistant', 'user', 'assistant', 'tool', 'assistant', 'user', 'assistant']
""",
    "undeletable_deployment": """
s-1 is ACTIVE; it expires in 30 minutes because of IDLE, unless it is used
APP_HAS_SESSIONS: 1 session, ['s-1']
  held by ['notebook-3'], last used by example
  could succeed by itself in 30 minutes
draining: DRAINING, 1 active session
a new session: APP_DRAINING
after its last session: DELETED
force: ['busy'] and the deployment are DELETED
a query that comes late: APP_DELETED
3 deployments:
  -v3: ACTIVE, 1 active sessions
  -v4: ACTIVE, 1 active sessions
  -v5: ACTIVE, 1 active sessions
cleaned up: ['-v3', '-v4']
1 deployments:
  -v5: ACTIVE, 1 active sessions
without auto_create: AUTO_CREATE_REFUSED
""",
    "session_practices": """
user-123: 5 requests, COMPLETED
user-456-device-789: ACTIVE, expired: False
one-off: COMPLETED
error rate 50%, average 0:00:01
user-456: 2 sessions, 3 requests
by status: {'ACTIVE': 1, 'COMPLETED': 2}
ended for their error rate: ['old-5']
cleaned up 5 inactive sessions
cleaned up 0 old sessions
fragile: 3 errors, FAILED: ConnectionError
warning: shaky has an error rate of 50%
shaky: FAILED, THRESHOLD
16 of 24 refused, 8 active
with eviction: created, 8 active
pool: reused True, made anew under the same id True
""",
    "reset_memory": """
memory: 26 messages, 20 in the context
if_idle: refused, voice-agent is at work
reset: 26 messages cleared, now generation 2; gone from the files: <scrubs>
late answer refused: TURN_SUPERSEDED
late answer refused: GENERATION_CHANGED
memory after the race: 0 messages
watchers saw: RESET of kitchen
<files>kitchen, same uid: True, 2 messages,
  last reset because 'the user asked for a clean start'
reset: 2 messages cleared, now generation 3; gone from the files: <scrubs>
backup: 2 messages, the last is 'Hello! How can I help?'
audit: 2 resets, by example
""",
    "labelled_sessions": """
created s-1 with 6 labels
labels now: {'environment': 'production', 'project': 'demo', 'version': 'v1.2.0'}
refused: the key '' must have 1 to 63 letters or digits, with . _ / - between them
refused: must have 1 to 256 characters without control characters
refused: must be str, not NoneType
refused: must be str, not int
page 2: ['run-10'] to ['run-19'], 10 of 23; more: True
page 9: [] to [], 0 of 23; more: False
of pages, in testing: 11
two of 24 released: 2 less
  s-1: COMPLETED, REQUEST
  run-00: EXPIRED, IDLE
recovered long-job in another process, at step 3
back here, the state is {'step': 4}
data_processing: <number> s, healthy: True
operation failed: no such image; its session is FAILED
210 tasks, 100 a session: 3 sessions
""",
    "dungeon_master": """
root: 'narrative of Faerun: an inn', …, 'Error running sub-agent lawyer: no rules tonight'
unique ids: 5 of 5
<children>lingering: 0; the root: ACTIVE
in the root's history: 2, with the children's: 11 in 6 sessions
kill -9, with 3 sub-agents at work
3 ended as FAILED by themselves, 0 linger
the root is ACTIVE, with 2 requests and 1 error
the root is COMPLETED
""",
    "aiecs_sessions": """
user-123: 5 requests, completed
user-456: 20 requests, 25% errors, 0.5 s
try 1: the model did not answer
try 2: the model did not answer
try 3: the model did not answer
fragile: 3 errors, failed
4 active: Maximum session limit reached
pool, 1800 s: 1 requests
pool, 1800 s: 2 requests
pool, 0 s: 1 requests
all: 7 sessions, 29 requests
""",
    "claude_transcripts": """
machine-1: 'What is in the shop?' -> I know 0 questions of before.
machine-2: 'And what is missing?' -> I know 1 questions of before.
listed: The shop, first asked 'What is in the shop?'
messages: ['user', 'assistant', 'user', 'assistant'], helpers: ['scout']
a session of 5 messages, labels {'team': 'shop'}; with helpers 7 in 2
deleted, and watchers know
left: []
""",
    "langgraph_threads": """
answer 1
answer 2
refund: granted
TURN_CONFLICT: held by worker-1
answer 1
  ann/chat: 3 runs, {'agent': 'desk', 'tier': 'gold'}
  ann/claim: 2 runs, {'agent': 'desk'}
  bob/chat: 1 runs, {'agent': 'desk'}
threads in the checkpointer: 3
after bob's has expired: 2
after the reset: answer 1
threads in the checkpointer: 2
after ann was erased: 0
""",
    "openai_agents_desk": """
one pod: It left yesterday.
the other: Tomorrow, I think.
  its model saw ['user', 'function_call', 'function_call_output', 'message', 'user']
after two runs at once: 10 items
u-456's order-77: 10 messages, expires after 30 idle days
erased: 1 session, 10 messages
what is left: []
""",
}
"""What each prints."""

OPEN: Final = {
    "<number>": r"\d+\.\d+",
    "<children>": r"(  \w+: (COMPLETED, 2 messages, \{'answer': .*\}|FAILED, 1 messages, "
    r"PermissionError)\n){2}",
}
"""What differs from run to run."""

HELD: Final = {
    "sqlite": {"<scrubs>": "True", "<files>": r"files that hold the secret: \[\] of [1-9]\n"},
    "postgres": {"<scrubs>": "False", "<files>": ""},
}
"""What differs from store to store: the files of PostgreSQL are its own."""


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a store; empty: the one that an example makes for itself."""
    if request.param == "sqlite":
        yield ""
        return
    dsn = postgres.server().take()
    yield postgres.url(dsn)
    postgres.server().give(dsn)


def say(name: str, *arguments: str) -> str:
    """Run an example as its reader does; return what it prints."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("SOJOURN")}
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py", *arguments],
        cwd=ROOT,
        env=own,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SAID)
def test_an_example_does_what_it_says(name: str, store: str) -> None:
    said = say(name, *(["--store", store] if store else []))
    pattern = re.escape(SAID[name].lstrip("\n"))
    for mark, text in {**OPEN, **HELD["postgres" if store else "sqlite"]}.items():
        pattern = pattern.replace(re.escape(mark), text)
    assert re.fullmatch(pattern, said), said


def test_there_is_an_example_for_each_that_is_named_and_each_is_small() -> None:
    examples = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert examples.keys() == {*SAID, "common"}
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, text in examples.items():
        assert len(text.splitlines()) < LINES, name
        assert f"[{name}.py]({name}.py)" in page
