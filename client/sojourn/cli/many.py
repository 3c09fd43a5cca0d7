"""`sojourn sessions end-all`, `delete-all`, `fork`, `aggregate` and `count`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

import sojourn
from sojourn.cli import app_views, encode, session_views
from sojourn.cli import parameters as given
from sojourn.cli.asking import confirm, may_be_asked, yes_option
from sojourn.cli.output import print_json, print_json_lines, print_sentence
from sojourn.cli.settings import Command, Settings, settings_of

F = TypeVar("F", bound=Callable[..., Any])


def _which(status: str) -> Callable[[F], F]:
    """Add the options that say which sessions are meant, by the clock too."""

    def decorate(function: F) -> F:
        function = click.option(
            "--idle-longer-than", type=given.DURATION, help="Idle for longer than this."
        )(function)
        function = click.option(
            "--older-than", type=given.DURATION, help="Created longer ago than this."
        )(function)
        return given.selection_options(status)(function)

    return decorate


def _bulk_options(function: F) -> F:
    """Add the options that all bulk commands share."""
    for option in (
        given.request_id_option,
        click.option("--dry-run", is_flag=True, help="Only say how many it would be."),
        click.option(
            "--keep",
            type=click.IntRange(min=0),
            default=0,
            metavar="N",
            help="Leave the newest N alone.",
        ),
        click.option("--all", "every", is_flag=True, help="Means it, where nothing selects."),
    ):
        function = option(function)
    return function


def _refuse_everything(selected: dict[str, Any], *, every: bool) -> None:
    if not every and not any(value not in (None, "", ()) for value in selected.values()):
        raise click.UsageError("Which sessions? Select them, or say --all.")


def _told(
    settings: Settings,
    done: sojourn.EndManyResult | sojourn.DeleteManyResult,
    *,
    dry_run: bool,
    what: str,
) -> None:
    """Print what a bulk command did."""
    if settings.as_table:
        print_sentence(f"{done.count} session(s) {'would be' if dry_run else 'are'} {what}.")
        return
    record: encode.Record = {
        "app": settings.app,
        "count": done.count,
        "first_keys": [app_views.key(one) for one in done.first_keys],
        "revision": done.revision,
        "dry_run": dry_run,
    }
    if isinstance(done, sojourn.DeleteManyResult):
        record["scrubbed"] = done.scrubbed
    print_json(record)


@click.command("end-all", cls=Command)
@_which("any; only active ones can end")
@click.option(
    "--as",
    "end_as",
    type=click.Choice(["completed", "failed", "expired"], case_sensitive=False),
    default="completed",
    show_default=True,
    help="How they end.",
)
@click.option("--reason", default="", help="Why, in your words.")
@_bulk_options
@click.pass_context
def end_all(
    context: click.Context,
    /,
    end_as: str,
    reason: str,
    every: bool,
    keep: int,
    dry_run: bool,
    request_id: str | None,
    **selected: Any,
) -> None:
    """End all sessions that are selected, but for the newest."""
    settings = settings_of(context)
    _refuse_everything(selected, every=every)
    with settings.connect() as client:
        done = client.sessions.end_many(
            end_as=sojourn.Status(end_as.upper()),
            reason=reason,
            all=every,
            keep_newest=keep,
            dry_run=dry_run,
            request_id=request_id,
            deadline=settings.deadline_said,
            **given.selection(default="any", **selected),
        )
    _told(settings, done, dry_run=dry_run, what=end_as.upper())


@click.command("delete-all", cls=Command)
@_which("any")
@_bulk_options
@yes_option
@click.pass_context
def delete_all(
    context: click.Context,
    /,
    every: bool,
    keep: int,
    dry_run: bool,
    yes: bool,
    request_id: str | None,
    **selected: Any,
) -> None:
    """Remove all sessions that are selected, ended or not, but for the newest."""
    settings = settings_of(context)
    _refuse_everything(selected, every=every)
    chosen = given.selection(default="any", **selected)
    may_be_asked(yes=yes or dry_run)
    with settings.connect() as client:
        if not dry_run and not yes:
            would = client.sessions.delete_many(all=every, keep_newest=keep, dry_run=True, **chosen)
            confirm(f"Delete {would.count} session(s) of {settings.app}?", yes=not would.count)
        done = client.sessions.delete_many(
            all=every,
            keep_newest=keep,
            dry_run=dry_run,
            request_id=request_id,
            deadline=settings.deadline_said,
            **chosen,
        )
    _told(settings, done, dry_run=dry_run, what="deleted")


@click.command(cls=Command)
@given.session_argument
@click.argument("new_id", required=False)
@click.option(
    "--through", type=given.SEQUENCE, metavar="SEQUENCE", help="Take messages up to this one."
)
@given.precondition_options
@given.request_id_option
@click.pass_context
def fork(
    context: click.Context,
    session_id: str,
    user: str,
    uid: str,
    new_id: str | None,
    through: int | None,
    etag: str,
    generation: int | None,
    request_id: str | None,
) -> None:
    """Copy a session to a NEW_ID of the same user, and print the copy."""
    settings = settings_of(context)
    if uid and session_id and new_id is None:
        # With --uid the only argument is the new id.
        session_id, new_id = "", session_id
    with settings.connect() as client:
        copy = client.sessions.fork(
            given.reference(session_id, user, uid),
            new_id,
            through_sequence=through,
            precondition=given.precondition(etag, generation),
            request_id=request_id,
        )
    session_views.show(settings, copy)


@click.command(cls=Command)
@_which("any")
@click.option(
    "--by", type=click.Choice(["user", "status"], case_sensitive=False), help="A group for each."
)
@click.option("--by-label", default="", metavar="KEY", help="A group for each value of a label.")
@click.option("--roll-up", is_flag=True, help="Count each descendant with its root.")
@click.pass_context
def aggregate(
    context: click.Context, /, by: str | None, by_label: str, roll_up: bool, **selected: Any
) -> None:
    """Sum up sessions: requests, errors, error rate, mean processing time, messages, counters."""
    settings = settings_of(context)
    if by and by_label:
        raise click.UsageError("--by and --by-label exclude each other.")
    with settings.connect() as client:
        pager = client.sessions.aggregate(
            group_by=None if by is None else sojourn.GroupBy(by.upper()),
            label_key=by_label,
            roll_up=roll_up,
            page_size=200,
            **given.selection(default="any", **selected),
        )
        records = (app_views.aggregate(one) for one in pager)
        if settings.as_table:
            app_views.show_groups(records)
        else:
            print_json_lines(records)


@click.command(cls=Command)
@_which("active")
@click.pass_context
def count(context: click.Context, /, **selected: Any) -> None:
    """Count sessions: the active ones, unless told otherwise."""
    settings = settings_of(context)
    with settings.connect() as client:
        found = client.sessions.count(**given.selection(default="active", **selected))
    if settings.as_table:
        print_sentence(str(found))
    else:
        print_json({"app": settings.app, "count": found})


COMMANDS = (end_all, delete_all, fork, aggregate, count)
