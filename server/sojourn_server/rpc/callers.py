"""Who is behind a call: its credential, its connection, and in whose name it acts."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, NoReturn

import grpc

from sojourn_server import logs
from sojourn_server.access.gate import Gate, NoCredential
from sojourn_server.access.identity import BadCredential
from sojourn_server.domain.access import ANYBODY, Permission, Principal
from sojourn_server.domain.errors import Reason, Refusal, invalid_field
from sojourn_server.domain.tokens import digest

AUTHORIZATION: Final = "authorization"
ACTOR: Final = "x-sojourn-actor-bin"
"""Metadata, UTF-8: in whose name the caller acts, while authentication is off."""
ACTOR_CHARACTERS: Final = 256

Context = grpc.aio.ServicerContext[Any, Any]

_log = logs.Log("access")


class Caller(NamedTuple):
    """Who calls."""

    principal: Principal
    actor: str
    """Whose name goes into the log."""


class Callers:
    """Finds out who is behind each call.

    Args:
        gate: Authenticates; None: authentication is off, and anybody may do anything.
    """

    def __init__(self, gate: Gate | None) -> None:
        self._gate = gate

    def known(self, context: Context) -> Caller | None:
        """Who calls, if that can be said at once; None: `ask` must be asked.

        Raises:
            Refusal: `CREDENTIAL_MISSING`, `CREDENTIAL_INVALID`, or `INVALID_FIELD` for an
                actor that cannot be.
        """
        if self._gate is None:
            return Caller(ANYBODY, _actor(context))
        try:
            principal = self._gate.known(_authorization(context), _Connection(context))
        except (NoCredential, BadCredential) as error:
            _refuse(error)
        return None if principal is None else Caller(principal, principal.name)

    async def ask(self, context: Context) -> Caller:
        """Who calls, whatever it takes to find out.

        Raises:
            Refusal: As `known`.
        """
        caller = self.known(context)
        if caller is not None:
            return caller
        assert self._gate is not None
        authorization = _authorization(context)
        assert authorization is not None
        try:
            principal = await self._gate.authenticate(authorization)
        except BadCredential as error:
            _refuse(error)
        return Caller(principal, principal.name)

    async def require_admin(self, context: Context) -> None:
        """Refuse whoever is no admin of the whole server, if authentication is on.

        Raises:
            Refusal: As `known`, or `GRANT_MISSING`.
        """
        caller = await self.ask(context)
        if not caller.principal.may_everywhere(Permission.ADMIN):
            raise Refusal(
                Reason.GRANT_MISSING,
                "this is for admins of all apps and users",
                {"permission": Permission.ADMIN.value},
            )


class _Connection:
    """The connection of a call, as the gate looks at it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def certificate(self) -> bytes | None:
        """The certificate of the other end, PEM."""
        return next(iter(self._context.auth_context().get("x509_pem_cert", ())), None)


def _authorization(context: Context) -> str | None:
    """The one header that says who calls.

    Raises:
        Refusal: `CREDENTIAL_INVALID`: there are several, or it is no text.
    """
    found: str | None = None
    for key, value in context.invocation_metadata() or ():
        if key == AUTHORIZATION:
            if found is not None or not isinstance(value, str):
                _refuse(BadCredential("several headers"))
            found = value
    return found


def _refuse(error: NoCredential | BadCredential) -> NoReturn:
    """Refuse a call whose caller is nobody; why goes to the server's log alone.

    Raises:
        Refusal: `CREDENTIAL_MISSING` or `CREDENTIAL_INVALID`.
    """
    if isinstance(error, NoCredential):
        raise Refusal(Reason.CREDENTIAL_MISSING, "the call needs a credential") from None
    _log.debug("credential refused", why=error.why)
    if error.expired:
        raise Refusal(Reason.CREDENTIAL_INVALID, "the credential has expired") from None
    raise Refusal(Reason.CREDENTIAL_INVALID, "the credential is not valid") from None


def _actor(context: Context) -> str:
    """In whose name the caller says it acts.

    Raises:
        Refusal: `INVALID_FIELD`: not UTF-8, not printable, or too long.
    """
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR:
            return _checked_actor(value)
    return ""


def _checked_actor(value: str | bytes) -> str:
    try:
        actor = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise invalid_field(ACTOR, "must be UTF-8") from None
    if len(actor) > ACTOR_CHARACTERS:
        raise invalid_field(ACTOR, f"must be at most {ACTOR_CHARACTERS} characters")
    if not actor.isprintable():
        raise invalid_field(ACTOR, "must be printable")
    return actor


def unnamed(name: str) -> str:
    """What request records know a name by: they outlive a user who is erased.

    Args:
        name: A principal, or a request_id, in which callers like to put other names.
    """
    return digest(name.encode()).hex() if name else ""
