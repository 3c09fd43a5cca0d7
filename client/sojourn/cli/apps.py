"""`sojourn apps …`: what apps there are, their rules, and their end."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Any

import click

import sojourn
from sojourn.cli import app_views, policies
from sojourn.cli import parameters as given
from sojourn.cli.asking import Progress, confirm, may_be_asked, yes_option
from sojourn.cli.failures import ExitCode, Failure
from sojourn.cli.output import print_json, print_json_lines, print_sentence
from sojourn.cli.settings import Group, Settings, settings_of

NAME = click.argument("name", metavar="[NAME]", default="")

TIMEOUT = click.option(
    "--timeout",
    type=given.DURATION,
    help="How long a drain waits before what is left is forced, up to 7d.  [default: 1h]",
)

MODES = click.Choice(["refuse", "drain", "force"], case_sensitive=False)

CLEANUP_EXAMPLES = """\b
For example, to keep the newest deployment of an agent and delete the others:
  sojourn apps cleanup --label agent=bq_agent_mick --keep 1 --mode drain
"""


@click.group(cls=Group)
def apps() -> None:
    """List, read, change and delete apps, and set their rules.

    The app is the one that is NAMEd, or that --app names.
    """


def _named(settings: Settings, name: str) -> str:
    """Return which app is meant."""
    found = name or settings.app
    if not found.strip():
        raise click.UsageError("Which app? Name it, or use --app NAME, or set SOJOURN_APP.")
    return found


@apps.command("list")
@click.option(
    "--status",
    type=click.Choice(["active", "draining", "deleted", "any"], case_sensitive=False),
    multiple=True,
    help="With this status; again for more.  [default: active and draining]",
)
@given.label_selector_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.pass_context
def list_apps(
    context: click.Context,
    status: tuple[str, ...],
    labels: tuple[tuple[str, str, tuple[str, ...]], ...],
    limit: int | None,
) -> None:
    """List apps by name, with how many sessions each has."""
    settings = settings_of(context)
    every = "any" if "any" in status else None
    with settings.connect(any_app=True) as client:
        pager = client.apps.list(
            labels=given.selectors(labels),
            status=every or [sojourn.AppStatus(one.upper()) for one in status] or None,
            page_size=min(limit or 200, 200),
        )
        records = (app_views.app(one) for one in islice(pager, limit))
        if settings.as_table:
            app_views.show_apps(records)
        else:
            print_json_lines(records)


@apps.command()
@NAME
@click.pass_context
def get(context: click.Context, name: str) -> None:
    """Read an app: its rules, how many sessions it has, and how far a drain has come."""
    settings = settings_of(context)
    with settings.connect(any_app=True) as client:
        found = client.apps.get(_named(settings, name))
    app_views.show_app(settings, found)


@apps.command()
@NAME
@click.option(
    "-l", "--label", "labels", type=given.PAIR, multiple=True, help="A label to write; again."
)
@click.option(
    "--remove-label", "remove_labels", metavar="KEY", multiple=True, help="A label to remove."
)
@click.option("--allow-again", is_flag=True, help="Let the name of a deleted app be used again.")
@given.request_id_option
@click.pass_context
def update(
    context: click.Context,
    name: str,
    labels: tuple[tuple[str, str], ...],
    remove_labels: tuple[str, ...],
    allow_again: bool,
    request_id: str | None,
) -> None:
    """Change an app's labels, or allow the name of a deleted one again."""
    settings = settings_of(context)
    if not labels and not remove_labels and not allow_again:
        raise click.UsageError("Nothing to do: name --label, --remove-label or --allow-again.")
    with settings.connect(any_app=True) as client:
        done = client.apps.update(
            _named(settings, name),
            labels=given.by_key(labels, "--label"),
            remove_labels=remove_labels,
            allow_again=allow_again,
            request_id=request_id,
        )
    if settings.as_table:
        word = "is changed" if done.changed else "was so already"
        print_sentence(f"{done.app.app} {word}.")
    else:
        print_json(app_views.app(done.app) | {"changed": done.changed})


@apps.command()
@NAME
@click.option(
    "--json",
    "whole",
    type=given.JSON_OBJECT,
    help="All rules at once: a JSON object as this command prints it, or @FILE.",
)
@click.option(
    "--effective",
    is_flag=True,
    help="Show what holds, with the server's defaults.",
)
@policies.policy_options
@click.pass_context
def policy(
    context: click.Context,
    /,
    name: str,
    whole: dict[str, str] | None,
    effective: bool,
    unset: tuple[str, ...],
    **said: Any,
) -> None:
    """Show an app's rules, or change those that are named. The others stay as they are."""
    settings = settings_of(context)
    changes = bool(unset) or any(value not in (None, ()) for value in said.values())
    if whole is not None and changes:
        raise click.UsageError("--json says all the rules; other options exclude it.")
    if effective and (changes or whole is not None):
        raise click.UsageError("--effective only shows; other options exclude it.")
    with settings.connect(any_app=True) as client:
        app = _named(settings, name)
        if effective:
            read = client.apps.get(app)
            found = read.effective_policy or read.policy
        elif whole is not None:
            found = policies.from_json(whole)
        else:
            found = _policy(client, app, may_be_new=changes)
        if changes:
            found = policies.changed(found, unset, said)
        if changes or whole is not None:
            found = client.apps.update(app, policy=found).app.policy
    app_views.show_policy(settings, found)


def _policy(client: sojourn.Client, app: str, *, may_be_new: bool) -> sojourn.Policy:
    try:
        return client.apps.get(app).policy
    except sojourn.errors.AppNotFoundError:
        if not may_be_new:
            raise
        return sojourn.Policy()


@apps.command()
@NAME
@TIMEOUT
@click.option("--wait", is_flag=True, help="Stay until the app is deleted.")
@yes_option
@given.request_id_option
@click.pass_context
def drain(
    context: click.Context,
    name: str,
    timeout: timedelta | None,
    wait: bool,
    yes: bool,
    request_id: str | None,
) -> None:
    """Delete an app when its last session has ended, and take no new ones until then."""
    settings = settings_of(context)
    app = _named(settings, name)
    confirm(f"Delete {app} with all it holds, when its last session has ended?", yes=yes)
    _delete(
        settings,
        app,
        sojourn.DeleteMode.DRAIN,
        drain_timeout=timeout,
        wait=wait,
        request_id=request_id,
    )


@apps.command()
@NAME
@click.option("--force", is_flag=True, help="Even if it has live sessions: end and delete them.")
@yes_option
@given.request_id_option
@click.pass_context
def delete(
    context: click.Context, name: str, force: bool, yes: bool, request_id: str | None
) -> None:
    """Delete an app with all it holds; while it has live sessions, only with --force."""
    settings = settings_of(context)
    app = _named(settings, name)
    confirm(f"Delete {app} with all it holds?", yes=yes)
    mode = sojourn.DeleteMode.FORCE if force else sojourn.DeleteMode.REFUSE
    _delete(settings, app, mode, request_id=request_id)


def _delete(settings: Settings, app: str, mode: sojourn.DeleteMode, **more: Any) -> None:
    progress = Progress()

    def tell(found: sojourn.App) -> None:
        until = (
            "" if found.drain_deadline is None else f" until {found.drain_deadline:%H:%M:%S} UTC"
        )
        progress.say(f"{found.active_sessions} active sessions left, at most{until}")

    with settings.connect(any_app=True) as client:
        try:
            done = client.apps.delete(
                app, mode=mode, on_progress=tell, deadline=settings.deadline_said, **more
            )
        except sojourn.errors.AppHasSessionsError as error:
            raise Failure(_why_not(error), ExitCode.REFUSED) from error
        finally:
            progress.end()
    record = {
        "app": app,
        "status": done.status.value,
        "sessions_deleted": done.sessions_deleted,
        "revision": done.revision,
    }
    if not settings.as_table:
        print_json(record)
    elif done.status is sojourn.AppStatus.DRAINING:
        print_sentence(f"{app} drains: `sojourn apps get {app}` says how far it has come.")
    else:
        print_sentence(f"{app} is deleted, with {done.sessions_deleted} session(s).")


def _why_not(error: sojourn.errors.AppHasSessionsError) -> str:
    """Return who holds an app, and until when."""
    lines = [f"{error.reason}: {error.message}"]
    names = [
        f"{one.user}/{one.session_id}" if one.user else one.session_id for one in error.first_keys
    ]
    more = error.count - len(names)
    if names:
        lines.append(f"  sessions: {', '.join(names)}{f' and {more} more' if more > 0 else ''}")
    if error.holders:
        lines.append(f"  in use by: {', '.join(error.holders)}")
    if error.latest_activity_time is not None:
        who = f" by {error.last_actor}" if error.last_actor else ""
        lines.append(f"  last used: {error.latest_activity_time:%Y-%m-%d %H:%M:%S} UTC{who}")
    soonest = error.earliest_success_time
    lines.append(
        "  it can be deleted with --force, or by `sojourn apps drain`"
        + ("" if soonest is None else f", or from {soonest:%Y-%m-%d %H:%M:%S} UTC on")
    )
    return "\n".join(lines)


@apps.command(epilog=CLEANUP_EXAMPLES)
@given.label_selector_option
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Leave the newest N alone.",
)
@click.option(
    "--mode",
    type=MODES,
    default="refuse",
    show_default=True,
    help="What to do about live sessions: leave the app alone, wait for their end, or end them.",
)
@TIMEOUT
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@yes_option
@given.request_id_option
@click.pass_context
def cleanup(
    context: click.Context,
    labels: tuple[tuple[str, str, tuple[str, ...]], ...],
    keep: int,
    mode: str,
    timeout: timedelta | None,
    dry_run: bool,
    yes: bool,
    request_id: str | None,
) -> None:
    """Delete the apps whose labels match, but for the newest; the oldest first.

    Ends with status 1 if apps are left alone because they have live sessions.
    """
    settings = settings_of(context)
    chosen = given.selectors(labels)
    if not chosen:
        raise click.UsageError("Which apps? Name at least one --label.")
    how = sojourn.DeleteMode(mode.upper())
    may_be_asked(yes=yes or dry_run)
    with settings.connect(any_app=True) as client:
        if not dry_run and not yes:
            would = client.apps.delete_many(chosen, keep_newest=keep, mode=how, dry_run=True).apps
            confirm(f"Delete {', '.join(would) or 'nothing'}?", yes=not would)
        done = client.apps.delete_many(
            chosen,
            keep_newest=keep,
            mode=how,
            drain_timeout=timeout,
            dry_run=dry_run,
            request_id=request_id,
            deadline=settings.deadline_said,
        )
    if settings.as_table:
        print_sentence(_cleaned(done, how, dry_run=dry_run))
    else:
        print_json(
            {
                "apps": list(done.apps),
                "refused": list(done.refused),
                "more": done.more,
                "dry_run": dry_run,
            }
        )
    if done.refused and not dry_run:
        raise Failure(
            f"APP_HAS_SESSIONS: {', '.join(done.refused)} left alone; use --mode drain or force",
            ExitCode.REFUSED,
        )


def _cleaned(done: sojourn.DeleteAppsResult, how: sojourn.DeleteMode, *, dry_run: bool) -> str:
    drains = how is sojourn.DeleteMode.DRAIN
    now, then = ("drain", "would drain") if drains else ("are deleted", "would be deleted")
    said = "No app is deleted."
    if done.apps:
        said = f"These {then if dry_run else now}: {', '.join(done.apps)}."
    if done.refused and dry_run:
        said += f" These have live sessions and would be left alone: {', '.join(done.refused)}."
    return said + (" There are more: run it again." if done.more else "")
