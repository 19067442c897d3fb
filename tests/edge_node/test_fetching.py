"""Fetching content in chunks into a real store, with the store's real thread."""

import time
from pathlib import Path

import pytest

from common.frame import content_digest
from common.node.jobs import Call, Jobs
from common.node.mailbox import Mailbox
from common.store import open_edge_store
from common.wire.messages import Chunk, Fetch
from edge_node.fetching import Fetcher
from edge_node.receiving import FetchBlob

CONTENT = bytes(range(256)) * 40
CHUNK = 4096


@pytest.mark.parametrize("original", [True, False])
def test_content_is_asked_for_once_and_then_kept(tmp_path: Path, original: bool) -> None:
    mailbox: Mailbox[Call] = Mailbox()
    jobs = Jobs("store", mailbox)
    asked: list[Fetch] = []
    ended: list[bool] = []
    request = FetchBlob(content_digest(CONTENT), len(CONTENT), original)
    with open_edge_store(tmp_path, "k" * 40) as store:
        fetcher = Fetcher(store, jobs, send=asked.append, done=lambda _, there: ended.append(there))
        fetcher.begin(request, CHUNK)
        answered = 0
        deadline = time.monotonic() + 20
        while not ended and len(asked) <= 10:
            assert time.monotonic() < deadline
            for call in mailbox.drain():
                call()
            for fetch in asked[answered:]:
                part = CONTENT[fetch.offset : fetch.offset + fetch.length]
                fetcher.chunk(Chunk(fetch.digest, fetch.offset, len(CONTENT), part))
            answered = len(asked)
        jobs.close()
        assert ended == [True]
        assert [fetch.offset for fetch in asked] == [0, 4096, 8192]
        assert store.has_blob(request.digest)
    mailbox.close()
