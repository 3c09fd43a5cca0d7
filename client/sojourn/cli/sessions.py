"""`sojourn sessions …`: from create to delete."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Any

import click

import sojourn
from sojourn.cli import encode, session_views
from sojourn.cli import parameters as given
from sojourn.cli.output import print_json, print_json_lines, print_sentence
from sojourn.cli.settings import Group, Settings, settings_of


@click.group(cls=Group)
def sessions() -> None:
    """Create, read, list, change, end, reset and delete sessions."""


def _said(settings: Settings, record: encode.Record, sentence: str) -> None:
    """Print what a write did: a sentence for people, else the record."""
    if settings.as_table:
        print_sentence(sentence)
    else:
        print_json(record)


@sessions.command()
@click.argument("session_id", metavar="[SESSION_ID]", required=False)
@click.option("--user", default="", help="Whose it is. Without one it is the app's own.")
@click.option(
    "-l", "--label", "labels", type=given.PAIR, multiple=True, help="A label; again for more."
)
@click.option("--metadata", type=given.JSON_OBJECT, help="Own data: a JSON object, or @FILE.")
@click.option("--state", type=given.JSON_OBJECT, help="Its first state: a JSON object, or @FILE.")
@click.option("--user-state", type=given.JSON_OBJECT, help="Keys to write to the user's state.")
@click.option("--app-state", type=given.JSON_OBJECT, help="Keys to write to the app's state.")
@click.option("--parent", default="", help="The uid of its parent.")
@click.option("--idle-timeout", type=given.DURATION, help="Expire when idle for so long, or never.")
@click.option("--max-lifetime", type=given.DURATION, help="Expire at this age, or never.")
@click.option(
    "--if-exists",
    type=click.Choice(["fail", "return-existing", "replace-ended"]),
    default="fail",
    show_default=True,
    help="What to do if the id is taken.",
)
@given.request_id_option
@click.pass_context
def create(
    context: click.Context,
    session_id: str | None,
    user: str,
    labels: tuple[tuple[str, str], ...],
    metadata: dict[str, str] | None,
    state: dict[str, str] | None,
    user_state: dict[str, str] | None,
    app_state: dict[str, str] | None,
    parent: str,
    idle_timeout: timedelta | None,
    max_lifetime: timedelta | None,
    if_exists: str,
    request_id: str | None,
) -> None:
    """Create a session and print it. Without a SESSION_ID the server makes one."""
    settings = settings_of(context)
    if session_id is not None and not session_id.strip():
        # Most likely a variable of the shell that was never set.
        raise click.UsageError("The SESSION_ID is empty; leave it out, and the server makes one.")
    with settings.connect() as client:
        session = client.sessions.create(
            session_id,
            user=user,
            labels=given.by_key(labels, "--label"),
            metadata=given.raw_values(metadata) or {},
            state=given.raw_values(state),
            user_state=given.raw_values(user_state),
            app_state=given.raw_values(app_state),
            parent=parent,
            idle_timeout=idle_timeout,
            max_lifetime=max_lifetime,
            if_exists=sojourn.IfExists(if_exists.upper().replace("-", "_")),
            request_id=request_id,
        )
    session_views.show(settings, session)


@sessions.command()
@given.session_argument
@click.option(
    "--last-messages",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Bring the newest N messages along.",
)
@click.pass_context
def get(
    context: click.Context, session_id: str, user: str, uid: str, last_messages: int | None
) -> None:
    """Read a session, with its metadata and state; ended ones too."""
    settings = settings_of(context)
    ref = given.reference(session_id, user, uid)
    with settings.connect() as client:
        session = client.sessions.get(ref, view=sojourn.View.FULL, last_messages=last_messages)
    session_views.show(settings, session)


@sessions.command("list")
@click.option("--user", default=None, help='Of one user; "" means the app\'s own sessions.')
@click.option(
    "--status",
    type=click.Choice(["active", "completed", "failed", "expired", "any"], case_sensitive=False),
    multiple=True,
    help="With this status; again for more.  [default: active]",
)
@click.option("-a", "--all", "all_statuses", is_flag=True, help="With any status.")
@click.option(
    "-l",
    "--label",
    "labels",
    type=given.SELECTOR,
    multiple=True,
    help="Whose label matches: key, !key, key=value, key=a|b, key!=value; again for more.",
)
@click.option("--prefix", default="", help="Whose id begins so.")
@click.option("--parent", default="", help="Whose parent has this uid.")
@click.option("--older-than", type=given.DURATION, help="Created longer ago than this.")
@click.option("--idle-longer-than", type=given.DURATION, help="Idle for longer than this.")
@click.option("--busy/--not-busy", default=None, help="With a live turn, or without one.")
@click.option(
    "--order",
    type=click.Choice(["create", "id", "update", "activity"]),
    default="create",
    show_default=True,
    help="Sorted by the time of creation, id, or time of the last change or activity.",
)
@click.option(
    "--newest-first", "--descending", "descending", is_flag=True, help="The other way round."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option("--full", is_flag=True, help="With metadata and state.")
@click.pass_context
def list_sessions(context: click.Context, /, limit: int | None, full: bool, **asked: Any) -> None:
    """List sessions: the active ones, unless told otherwise."""
    settings = settings_of(context)
    with settings.connect() as client:
        pager = client.sessions.list(
            view=sojourn.View.FULL if full else sojourn.View.BASIC,
            page_size=min(limit or 200, 200),
            **_what(**asked),
        )
        records = (encode.session(one) for one in islice(pager, limit))
        if settings.as_table:
            session_views.show_list(records)
        else:
            print_json_lines(records)


def _what(
    *,
    user: str | None,
    status: tuple[str, ...],
    all_statuses: bool,
    labels: tuple[tuple[str, str, tuple[str, ...]], ...],
    prefix: str,
    parent: str,
    older_than: timedelta | None,
    idle_longer_than: timedelta | None,
    busy: bool | None,
    order: str,
    descending: bool,
) -> Any:
    """Return the arguments of a list."""
    if all_statuses and status:
        raise click.UsageError("--all and --status exclude each other.")
    every = all_statuses or "any" in status
    names = {
        "create": "CREATE_TIME",
        "id": "SESSION_ID",
        "update": "UPDATE_TIME",
        "activity": "ACTIVITY_TIME",
    }
    return {
        "user": user,
        "status": "any"
        if every
        else [sojourn.Status(one.upper()) for one in status] or sojourn.Status.ACTIVE,
        "labels": given.selectors(labels),
        "filter": sojourn.SessionFilter(
            session_id_prefix=prefix,
            parent_uid=parent,
            older_than=older_than,
            idle_longer_than=idle_longer_than,
            has_turn=busy,
        ),
        "order": sojourn.SessionOrder(names[order]),
        "descending": descending,
    }


@sessions.command()
@given.session_argument
@click.option("-l", "--label", "labels", type=given.PAIR, multiple=True, help="A label to write.")
@click.option(
    "--remove-label", "remove_labels", metavar="KEY", multiple=True, help="A label to remove."
)
@click.option("--replace-labels", is_flag=True, help="Remove all labels first.")
@click.option("--metadata", type=given.JSON_OBJECT, help="Own data to write: an object, or @FILE.")
@click.option("--remove-metadata", metavar="KEY", multiple=True, help="Own data to remove.")
@click.option("--state", type=given.JSON_OBJECT, help="State to write: a JSON object, or @FILE.")
@click.option("--remove-state", metavar="KEY", multiple=True, help="State to remove.")
@click.option("--replace-state", is_flag=True, help="Drop all keys of the state first.")
@click.option("--user-state", type=given.JSON_OBJECT, help="Keys to write to the user's state.")
@click.option("--app-state", type=given.JSON_OBJECT, help="Keys to write to the app's state.")
@click.option("--requests", type=click.IntRange(0), metavar="N", default=0, help="Requests to add.")
@click.option("--errors", type=click.IntRange(0), metavar="N", default=0, help="Errors to add.")
@click.option("--processing-time", type=given.DURATION, help="Time to add.")
@click.option(
    "--count", "counters", type=given.COUNT, multiple=True, help="An own counter to move."
)
@click.option("--idle-timeout", type=given.DURATION, help="Expire when idle for so long, or never.")
@click.option("--max-lifetime", type=given.DURATION, help="Expire at this age, or never.")
@given.precondition_options
@given.request_id_option
@click.pass_context
def update(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    labels: tuple[tuple[str, str], ...],
    remove_labels: tuple[str, ...],
    replace_labels: bool,
    metadata: dict[str, str] | None,
    remove_metadata: tuple[str, ...],
    state: dict[str, str] | None,
    remove_state: tuple[str, ...],
    replace_state: bool,
    user_state: dict[str, str] | None,
    app_state: dict[str, str] | None,
    requests: int,
    errors: int,
    processing_time: timedelta | None,
    counters: tuple[tuple[str, int], ...],
    idle_timeout: timedelta | None,
    max_lifetime: timedelta | None,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Change labels, metadata, state, counters and timeouts, all together."""
    settings = settings_of(context)
    patch = None
    if state is not None or remove_state or replace_state:
        patch = sojourn.StatePatch(
            set=given.raw_values(state) or {}, remove=remove_state, replace=replace_state
        )
    delta = None
    if requests or errors or counters or processing_time is not None:
        delta = sojourn.MetricsDelta(
            requests=requests,
            errors=errors,
            processing_time=processing_time,
            counters=given.by_key(counters, "--count"),
        )
    with settings.connect() as client:
        done = client.sessions.update(
            given.reference(session_id, user, uid),
            labels=given.by_key(labels, "--label"),
            remove_labels=remove_labels,
            replace_labels=replace_labels,
            metadata=given.raw_values(metadata),
            remove_metadata=remove_metadata,
            state=patch,
            user_state=given.raw_values(user_state),
            app_state=given.raw_values(app_state),
            metrics=delta,
            idle_timeout=idle_timeout,
            max_lifetime=max_lifetime,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    name = session_views.name_of(done.session)
    record = encode.session(done.session) | {"changed": done.changed}
    _said(settings, record, f"{name} is changed." if done.changed else f"{name} was so already.")


@sessions.command()
@given.session_argument
@click.pass_context
def touch(context: click.Context, session_id: str, user: str, uid: str) -> None:
    """Renew a session's idle deadline."""
    settings = settings_of(context)
    with settings.connect() as client:
        session = client.sessions.touch(given.reference(session_id, user, uid))
    record = encode.session(session)
    until = record["expire_time"] or "for ever"
    _said(settings, record, f"{session_views.name_of(session)} may be idle until {until}.")


@sessions.command()
@given.session_argument
@click.option(
    "--status",
    type=click.Choice(["completed", "failed", "expired"], case_sensitive=False),
    default="completed",
    show_default=True,
    help="How it ended. The first end wins.",
)
@click.option("--reason", default="", help="Why, in your words.")
@click.option("--result", type=given.JSON_VALUE, help="What came of it: a JSON value, or @FILE.")
@click.option("--cascade", is_flag=True, help="End all its descendants too.")
@given.precondition_options
@given.request_id_option
@click.pass_context
def end(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    status: str,
    reason: str,
    result: str | None,
    cascade: bool,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """End a session as completed, failed or expired."""
    settings = settings_of(context)
    with settings.connect() as client:
        done = client.sessions.end(
            given.reference(session_id, user, uid),
            status=sojourn.Status(status.upper()),
            reason=reason,
            result=None if result is None else sojourn.RawJson(result),
            cascade=cascade,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    record = encode.session(done.session) | {
        "changed": done.changed,
        "descendants_ended": done.descendants_ended,
    }
    name, word = session_views.name_of(done.session), done.session.status.value
    _said(settings, record, f"{name} {'is' if done.changed else 'was already'} {word}.")


@sessions.command()
@given.session_argument
@click.option(
    "--scope",
    type=click.Choice(["history", "state", "metrics", "all"], case_sensitive=False),
    default="all",
    show_default=True,
    help="What to clear.",
)
@click.option("--if-idle", is_flag=True, help="Only if nobody is working on it.")
@click.option("--reason", default="", help="Why, in your words.")
@click.option("--backup", default="", metavar="NEW_ID", help="Keep a copy under this id first.")
@given.precondition_options
@given.request_id_option
@click.pass_context
def reset(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    scope: str,
    if_idle: bool,
    reason: str,
    backup: str,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Clear a session's history, state, counters or all of them.

    Id, labels, metadata and expiry stay, and the generation grows by one.
    """
    settings = settings_of(context)
    with settings.connect() as client:
        done = client.sessions.reset(
            given.reference(session_id, user, uid),
            scope=sojourn.ResetScope(scope.upper()),
            if_idle=if_idle,
            reason=reason,
            backup_session_id=backup,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    record = encode.session(done.session) | {
        "messages_cleared": done.messages_cleared,
        "state_keys_cleared": done.state_keys_cleared,
        "metrics_cleared": done.metrics_cleared,
        "scrubbed": done.scrubbed,
        "backup": None if done.backup is None else encode.session(done.backup),
    }
    _said(
        settings,
        record,
        f"{session_views.name_of(done.session)} is reset, generation {done.session.generation}: "
        f"{done.messages_cleared} messages and {done.state_keys_cleared} state keys cleared, "
        f"{session_views.gone(done.scrubbed)}.",
    )


@sessions.command()
@given.session_argument
@click.option("--force", is_flag=True, help="End and delete its descendants too.")
@given.precondition_options
@given.request_id_option
@click.pass_context
def delete(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    force: bool,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Remove a session, ended or not, with all it held."""
    settings = settings_of(context)
    ref = given.reference(session_id, user, uid)
    with settings.connect() as client:
        done = client.sessions.delete(
            ref,
            force=force,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    record = encode.reference(settings.app, ref) | {
        "sessions_deleted": done.sessions_deleted,
        "messages_deleted": done.messages_deleted,
        "scrubbed": done.scrubbed,
        "revision": done.revision,
    }
    _said(
        settings,
        record,
        f"{done.sessions_deleted} session(s) and {done.messages_deleted} message(s) are deleted, "
        f"{session_views.gone(done.scrubbed)}.",
    )
