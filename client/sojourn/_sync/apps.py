# Generated from client/sojourn/_async/apps.py by `make gen`. Edit the source, never this file.
"""Apps: their labels and rules, their shared state, and their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from sojourn import _app_calls as calls
from sojourn import _app_convert as convert
from sojourn import inputs, results
from sojourn._acompat import sync_sleep
from sojourn._calls import PageAsk
from sojourn._sync import state
from sojourn._sync.caller import Caller
from sojourn._sync.pager import Pager
from sojourn.apps import App, Policy
from sojourn.enums import AppStatus, DeleteMode
from sojourn.errors import DeadlineExceededError
from sojourn.models import Page, State

FIRST_LOOK = 0.1
LAST_LOOKS = 2.0


class Apps:
    """The apps. For common errors see `sessions`.

    An app is named in the call, else it is the client's own.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def get(self, app: str | None = None) -> App:
        """Read an app: labels, policy, how many sessions it has, and how far a drain has come.

        Raises `AppNotFoundError`.
        """
        request = calls.get_app(self._caller.app(app))
        return convert.app_got(self._caller.call(self._caller.stubs.apps.GetApp, request))

    def update(
        self,
        app: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        remove_labels: Iterable[str] = (),
        policy: Policy | None = None,
        allow_again: bool = False,
        request_id: str | None = None,
    ) -> results.UpdateAppResult:
        """Change labels and policy, and with `allow_again` let a deleted name be used again.

        Labels are merged. The policy takes the place of the old one: to change a part of it, read
        it and use `dataclasses.replace`. The app comes into being with it. Raises
        `AppDeletedError`.
        """
        request = calls.update_app(
            self._caller.app(app),
            labels=labels,
            remove_labels=remove_labels,
            policy=policy,
            allow_again=allow_again,
            request_id=request_id,
        )
        answer = self._caller.call(self._caller.stubs.apps.UpdateApp, request)
        return convert.app_updated(answer)

    def delete(
        self,
        app: str | None = None,
        *,
        mode: DeleteMode = DeleteMode.REFUSE,
        drain_timeout: inputs.Duration | None = None,
        wait: bool = False,
        on_progress: Callable[[App], object] | None = None,
        request_id: str | None = None,
        deadline: inputs.Duration | None = None,
    ) -> results.DeleteAppResult:
        """Delete an app with all it holds; its name refuses sessions until it is allowed again.

        REFUSE fails while there are live sessions. DRAIN takes no new ones, and deletes the app
        when the last one has ended, or after `drain_timeout` (up to 7 d, 1 h by default) whatever
        is left; it is answered at once, unless `wait` says to look until it is done, and to tell
        `on_progress` at each look. FORCE deletes all at once. `deadline` bounds the call, waiting
        included: by default an hour, and the drain's time. Cut off, the delete goes on by itself.

        Raises `AppNotFoundError`, `AppHasSessionsError` (which says who holds it, and until when).
        """
        request = calls.delete_app(
            self._caller.app(app), mode=mode, drain_timeout=drain_timeout, request_id=request_id
        )
        stub = self._caller.stubs.apps.DeleteApp
        limit = self._caller.long_deadline(deadline)
        end = time.monotonic() + limit.total_seconds()
        if deadline is None and mode == DeleteMode.DRAIN:
            end += calls.drain_of(request).total_seconds()
        done = convert.app_deleted(self._caller.call(stub, request, deadline=limit))
        if not wait or done.status is not AppStatus.DRAINING:
            return done
        found = self._drained(request.app, end, on_progress)
        if not request.request_id:
            # Without one a repeat would not be the same delete.
            return replace(done, status=AppStatus.DELETED, revision=found)
        return convert.app_deleted(self._caller.call(stub, request, deadline=limit))

    def _drained(self, name: str, end: float, on_progress: Callable[[App], object] | None) -> int:
        """Look at a draining app until it is deleted, and return its last revision."""
        pause = FIRST_LOOK
        while True:
            found = self.get(name)
            if on_progress is not None:
                on_progress(found)
            if not found.is_draining:
                return found.revision
            if time.monotonic() + pause > end:
                raise DeadlineExceededError(
                    f"the app still has {found.session_count} sessions, and drains on",
                    method="DeleteApp",
                )
            sync_sleep(pause)
            pause = min(pause * 1.5, LAST_LOOKS)

    def delete_many(
        self,
        labels: inputs.Labels,
        *,
        keep_newest: int = 0,
        mode: DeleteMode = DeleteMode.REFUSE,
        drain_timeout: inputs.Duration | None = None,
        dry_run: bool = False,
        request_id: str | None = None,
        deadline: inputs.Duration | None = None,
    ) -> results.DeleteAppsResult:
        """Delete the apps whose labels match, the oldest first, but for the newest; see `delete`.

        With REFUSE those that have live sessions are left alone, and named. With `dry_run` nothing
        is deleted, and the answer says what would be.
        """
        request = calls.delete_apps(
            labels,
            keep_newest=keep_newest,
            mode=mode,
            drain_timeout=drain_timeout,
            dry_run=dry_run,
            request_id=request_id,
        )
        answer = self._caller.call(
            self._caller.stubs.apps.DeleteApps,
            request,
            deadline=self._caller.long_deadline(deadline),
        )
        return convert.apps_deleted(answer)

    def get_state(self, *, app: str | None = None) -> State:
        """Read the state of an app; one that was never heard of has an empty state of version 0."""
        return state.get_state(self._caller, app, None)

    def update_state(
        self,
        change: inputs.StateChange,
        *,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.StateResult:
        """Patch the state of an app; it comes into being with it. Raises as that of users."""
        return state.update_state(self._caller, app, None, change, request_id)

    # Last, because from here on `list` in this class means the method.
    def list(
        self,
        *,
        labels: inputs.Labels | None = None,
        status: AppStatus | str | Iterable[AppStatus] | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Pager[App]:
        """List apps by name, with how many sessions each has.

        `status` None, the default, means ACTIVE and DRAINING; "any" means deleted ones too. A
        `page_size` of 0 means 50, more than 1,000 means 1,000. When read, the pager raises
        `PageTokenInvalidError`.
        """
        request = calls.list_apps(labels, status)

        def fetch(ask: PageAsk) -> Page[App]:
            stub = self._caller.stubs.apps.ListApps
            answer = self._caller.call(stub, calls.apps_page(request, ask))
            return Page(
                items=tuple(convert.app(one) for one in answer.apps),
                next_page_token=answer.next_page_token,
                revision=0,
            )

        return Pager(fetch, page_size=page_size, page_token=page_token)
