"""`sojourn state …`: the state that sessions share, a user's and an app's."""

from __future__ import annotations

import click

import sojourn
from sojourn.cli import encode
from sojourn.cli import parameters as given
from sojourn.cli.output import print_facts, print_json, print_sentence
from sojourn.cli.settings import Group, settings_of


@click.group(cls=Group)
def state() -> None:
    """Read and change the state that sessions share: of a user, or of the app.

    A session's own state is in `sojourn sessions get` and `sojourn sessions update`.
    """


USER = click.option("--user", default=None, help="Of this user. Without it: of the app.")


@state.command()
@USER
@click.pass_context
def get(context: click.Context, user: str | None) -> None:
    """Print the state of the app, or of a user."""
    settings = settings_of(context)
    with settings.connect() as client:
        found = client.apps.get_state() if user is None else client.users.get_state(user)
    if settings.as_table:
        print_facts([("version", found.version), *encode.raws(found.values.json).items()])
    else:
        print_json({"app": settings.app, "user": user} | encode.state(found))


@state.command()
@USER
@click.argument("pairs", metavar="[KEY=JSON]...", type=given.JSON_PAIR, nargs=-1)
@click.option("--values", type=given.JSON_OBJECT, help="Keys to write: a JSON object, or @FILE.")
@click.option("--remove", metavar="KEY", multiple=True, help="A key to remove; again for more.")
@click.option("--replace", is_flag=True, help="Drop all keys first.")
@click.option(
    "--expected-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only if it has this version.",
)
@given.request_id_option
@click.pass_context
def update(
    context: click.Context,
    user: str | None,
    pairs: tuple[tuple[str, str], ...],
    values: dict[str, str] | None,
    remove: tuple[str, ...],
    replace: bool,
    expected_version: int | None,
    request_id: str | None,
) -> None:
    """Write and remove keys, all or nothing. A JSON null is stored as null.

    For example: sojourn state update --user u-456 'language="de"' visits=3
    """
    settings = settings_of(context)
    texts = (values or {}) | given.by_key(pairs, "the command")
    if not texts and not remove and not replace:
        raise click.UsageError("Nothing to do: name KEY=JSON, --values, --remove or --replace.")
    patch = sojourn.StatePatch(
        set=given.raw_values(texts) or {},
        remove=remove,
        replace=replace,
        expected_version=expected_version,
    )
    with settings.connect() as client:
        done = (
            client.apps.update_state(patch, request_id=request_id)
            if user is None
            else client.users.update_state(user, patch, request_id=request_id)
        )
    if settings.as_table:
        print_sentence(
            f"The state has version {done.version}{'' if done.changed else ', as before'}."
        )
    else:
        print_json(
            {
                "app": settings.app,
                "user": user,
                "version": done.version,
                "changed": done.changed,
                "revision": done.revision,
            }
        )
