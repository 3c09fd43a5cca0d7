"""The in-process server: what happens when it is not there, or cannot start."""

import sys
import threading

import pytest

from sojourn import errors, testing
from sojourn_server.settings import SettingsError


async def test_without_the_server_s_part_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sojourn_server.app", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install sojourn\[server\]"):
        async with testing.serve():
            raise AssertionError("never")
    with pytest.raises(ImportError), testing.serve_sync():
        raise AssertionError("never")


def test_a_server_that_cannot_start_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with pytest.raises(SettingsError), testing.serve_sync(listen="nonsense"):
        raise AssertionError("never")
    assert set(threading.enumerate()) <= before


def test_the_error_of_the_test_itself_comes_out() -> None:
    with pytest.raises(ZeroDivisionError), testing.serve_sync():
        raise ZeroDivisionError
