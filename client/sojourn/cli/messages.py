"""`sojourn messages …`: the history of a session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

import sojourn
from sojourn.cli import encode, message_lines, message_views
from sojourn.cli import parameters as given
from sojourn.cli.output import print_json, print_json_lines, print_sentence
from sojourn.cli.settings import Group, settings_of

EXAMPLES = """\b
For example:
  sojourn messages append user-123 "Where is my order?"
  sojourn messages list user-123 | sojourn messages append copy --json-lines --create
"""

INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.group(cls=Group)
def messages() -> None:
    """Append, read, pop, truncate and replace the history of a session."""


@messages.command(epilog=EXAMPLES)
@given.session_argument
@click.argument("text", required=False)
@click.option("--role", default="user", show_default=True, help="Who speaks.")
@click.option("--file", type=INPUT, metavar="FILE", help="Read the text from here; - is stdin.")
@click.option(
    "--json-lines",
    is_flag=True,
    help="The input holds whole messages, a JSON object a line, as `messages list` prints them.",
)
@click.option("--payload", type=INPUT, metavar="FILE", help="Anything that is not a plain text.")
@click.option("--content-type", default="", help="The media type of the payload.")
@click.option("--metadata", type=given.JSON_OBJECT, help="Own data: a JSON object, or @FILE.")
@click.option("--message-id", default="", help="Its id; the server makes one otherwise.")
@click.option("--create", is_flag=True, help="Create the session if it is not there.")
@given.precondition_options
@given.request_id_option
@click.pass_context
def append(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    text: str | None,
    role: str,
    file: Path | None,
    json_lines: bool,
    payload: Path | None,
    content_type: str,
    metadata: dict[str, str] | None,
    message_id: str,
    create: bool,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Append a message whose TEXT is an argument, a file, or the standard input.

    A file's text is taken as it is, its last line break too. With --json-lines many messages are
    appended, up to 1,000 at once; each such batch is appended whole or not at all.
    """
    settings = settings_of(context)
    if uid and session_id and text is None:
        # With --uid the only argument is the text.
        session_id, text = "", session_id
    if text is not None and file is not None:
        raise click.UsageError("Give the text as an argument or with --file, not both.")
    ref = given.reference(session_id, user, uid)
    batches: Iterator[list[sojourn.NewMessage]]
    if json_lines:
        if text is not None or payload is not None or message_id or metadata:
            raise click.UsageError("With --json-lines the input says everything of a message.")
        if request_id is not None:
            raise click.UsageError("With --json-lines, name a message_id in each line instead.")
        batches = message_lines.batches(message_lines.read(_read(file)))
    else:
        content = text if text is not None or (payload and not file) else _text(_read(file))
        message = sojourn.NewMessage(
            role=role,
            content=content,
            payload=b"" if payload is None else _read(payload),
            content_type=content_type,
            metadata=given.raw_values(metadata) or {},
            message_id=message_id,
        )
        batches = iter([[message]])
    with settings.connect() as client:
        for batch in batches:
            done = client.messages.append(
                ref,
                batch,
                create_if_missing=create,
                precondition=given.precondition(etag, generation),
                request_id=request_id,
            )
            record = encode.reference(settings.app, done.session.ref) | {
                "message_ids": list(done.message_ids),
                "sequences": list(done.sequences),
                "created": done.created,
                "changed": done.changed,
                "message_count": done.session.message_count,
                "etag": done.session.etag,
                "revision": done.revision,
            }
            if settings.as_table:
                print_sentence(
                    f"{len(batch)} message(s) appended, up to sequence {max(done.sequences)}."
                    if done.changed
                    else f"{len(batch)} message(s) were there already."
                )
            else:
                print_json(record)


def _read(file: Path | None) -> bytes:
    """Return the bytes of a file, or of the standard input."""
    if file is not None and str(file) != "-":
        try:
            return file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"Cannot read {file}: {error.strerror}.") from error
    if file is None and sys.stdin.isatty():
        raise click.UsageError(
            "Give the text as an argument, with --file, or on the standard input."
        )
    data = sys.stdin.buffer.read()
    if not data:
        raise click.UsageError('The standard input is empty; for an empty message, TEXT is "".')
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"The text is not UTF-8 at byte {error.start + 1}; pass other data with --payload."
        ) from error


@messages.command("list")
@given.session_argument
@click.option(
    "--last", type=given.SEQUENCE, metavar="N", help="Only the newest N of those that match."
)
@click.option(
    "--after", type=given.SEQUENCE, metavar="N", help="Only with a higher sequence than this."
)
@click.option(
    "--before", type=given.SEQUENCE, metavar="N", help="Only with a lower sequence than this."
)
@click.option("--newest-first", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Print at most so many.")
@click.option("--full", is_flag=True, help="Show whole messages in the table; JSON always does.")
@click.pass_context
def list_messages(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    last: int | None,
    after: int | None,
    before: int | None,
    newest_first: bool,
    limit: int | None,
    full: bool,
) -> None:
    """Print the history, oldest message first."""
    settings = settings_of(context)
    order = sojourn.MessageOrder.NEWEST_FIRST if newest_first else sojourn.MessageOrder.OLDEST_FIRST
    with settings.connect() as client:
        pager = client.messages.list(
            given.reference(session_id, user, uid),
            last=last,
            after_sequence=after,
            before_sequence=before,
            order=order,
            page_size=min(limit or 200, 200),
        )
        records = (encode.message(one) for one in islice(pager, limit))
        if settings.as_table:
            message_views.show_list(records, full=full)
        else:
            print_json_lines(records)


@messages.command()
@given.session_argument
@click.option("--id", "message_id", help="By its id.")
@click.option("--sequence", type=click.IntRange(min=1), metavar="N", help="By its sequence.")
@click.pass_context
def get(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    message_id: str | None,
    sequence: int | None,
) -> None:
    """Print one message."""
    settings = settings_of(context)
    if (message_id is None) == (sequence is None):
        raise click.UsageError("Which message? Name it with --id or with --sequence.")
    with settings.connect() as client:
        found = client.messages.get(
            given.reference(session_id, user, uid), message_id, sequence=sequence
        )
    record = encode.message(found)
    if settings.as_table:
        message_views.show_list([record], full=True)
    else:
        print_json(record)


@messages.command()
@given.session_argument
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=1,
    show_default=True,
    help="How many.",
)
@given.precondition_options
@given.request_id_option
@click.pass_context
def pop(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    count: int,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Remove the newest messages and print them, oldest first.

    Fewer come when there are fewer, or when more would exceed 1 MiB.
    """
    settings = settings_of(context)
    with settings.connect() as client:
        done = client.messages.pop(
            given.reference(session_id, user, uid),
            count,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    records = [encode.message(one) for one in done.messages]
    if settings.as_table:
        message_views.show_list(records, full=False)
    else:
        print_json_lines(records)


@messages.command()
@given.session_argument
@click.option(
    "--keep-through",
    type=given.SEQUENCE,
    required=True,
    metavar="SEQUENCE",
    help="Keep messages up to this one; 0 keeps none.",
)
@given.precondition_options
@given.request_id_option
@click.pass_context
def truncate(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    keep_through: int,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Remove all messages after a sequence."""
    settings = settings_of(context)
    with settings.connect() as client:
        done = client.messages.truncate(
            given.reference(session_id, user, uid),
            keep_through,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    if settings.as_table:
        print_sentence(
            f"{done.messages_removed} message(s) removed, {done.session.message_count} kept."
        )
    else:
        print_json(
            encode.session(done.session)
            | {"messages_removed": done.messages_removed, "changed": done.changed}
        )


@messages.command()
@given.session_argument
@click.option(
    "--keep-through",
    type=given.SEQUENCE,
    default=0,
    show_default=True,
    metavar="SEQUENCE",
    help="Keep messages up to this one; 0 keeps none.",
)
@click.option("--file", type=INPUT, metavar="FILE", help="Read from here; - is stdin.")
@given.precondition_options
@given.request_id_option
@click.pass_context
def replace(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    keep_through: int,
    file: Path | None,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Put messages in the place of all after a sequence, all at once.

    The input holds whole messages, a JSON object a line, as `messages list` prints them.
    """
    settings = settings_of(context)
    new = message_lines.read(_read(file))
    with settings.connect() as client:
        done = client.messages.replace(
            given.reference(session_id, user, uid),
            new,
            keep_through_sequence=keep_through,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    if settings.as_table:
        print_sentence(
            f"{done.messages_removed} message(s) removed and {len(done.sequences)} put in their "
            f"place; there are {done.session.message_count} now."
        )
    else:
        print_json(
            encode.session(done.session)
            | {
                "messages_removed": done.messages_removed,
                "message_ids": list(done.message_ids),
                "sequences": list(done.sequences),
                "changed": done.changed,
            }
        )
