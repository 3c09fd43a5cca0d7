"""`sojourn users …`: what can be done about a user."""

from __future__ import annotations

from dataclasses import asdict

import click

from sojourn.cli import parameters as given
from sojourn.cli.asking import confirm, yes_option
from sojourn.cli.output import print_json, print_sentence
from sojourn.cli.session_views import gone
from sojourn.cli.settings import Group, settings_of


@click.group(cls=Group)
def users() -> None:
    """Erase users. Their state is in `sojourn state`."""


@users.command()
@click.argument("user")
@yes_option
@given.request_id_option
@click.pass_context
def erase(context: click.Context, user: str, yes: bool, request_id: str | None) -> None:
    """Remove everything of a USER: sessions, state, history, and the name from the log.

    An empty USER, "", is the app's own.
    """
    settings = settings_of(context)
    with settings.connect() as client:
        whom = f"user {user}" if user else "the app's own user"
        confirm(f"Erase {whom} of {settings.app}, with all that was ever kept?", yes=yes)
        done = client.users.erase(user, request_id=request_id, deadline=settings.deadline_said)
    if settings.as_table:
        print_sentence(
            f"{done.sessions} session(s), {done.messages} message(s) and {done.state_keys} state "
            f"key(s) are erased, {done.changes} entries of the log are anonymous; they are "
            f"{gone(done.scrubbed)}."
        )
    else:
        print_json({"app": settings.app, "user": user} | asdict(done))
