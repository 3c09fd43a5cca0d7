"""Faults that every backend must answer for."""

from __future__ import annotations

import pytest

from sojourn_server.store.base import Store, StoreDown, StoreUnusable
from tests.store.backends import Backend
from tests.store.kit import APP, a_session, create


@pytest.mark.rule("S51")
async def test_a_store_that_cannot_be_opened_says_why_in_one_sentence(backend: Backend) -> None:
    sentences = {}
    for what, store in backend.unusable():
        with pytest.raises(StoreUnusable) as caught:
            await store.open()
        text = str(caught.value)
        assert text.endswith("."), what
        assert "\n" not in text, what
        assert caught.value.__cause__ is None, "no stack of reasons for the operator"
        sentences[what] = text
        await store.close()
    assert len(sentences) >= 2
    assert len(set(sentences.values())) == len(sentences), sentences


@pytest.mark.rule("S52")
async def test_a_closed_store_is_down(store: Store) -> None:
    await create(store, a_session())
    await store.close()
    with pytest.raises(StoreDown):
        await create(store, a_session("s-2"))
    with pytest.raises(StoreDown):
        await store.read(lambda tx: tx.head(APP))
    with pytest.raises(StoreDown):
        await store.check_readable()
    with pytest.raises(StoreDown):
        await store.check_writable()
