"""Fetching content in chunks into a real store, with the store's real thread."""

import shutil
import time

import pytest

from common.frame import content_digest
from common.node.jobs import Jobs
from common.node.mailbox import Mailbox
from common.store import open_edge_store
from common.wire.messages import Chunk, ErrorCode
from edge_node.fetching import RETRY_S, Fetcher
from edge_node.receiving import Content, FetchBlob, Problem

CONTENT = bytes(range(256)) * 40
CHUNK = 4096


class Fetching:
    """A fetcher with its store, and a fog that answers when told to."""

    def __init__(self, folder):
        self.mailbox = Mailbox()
        self.jobs = Jobs("store", self.mailbox)
        self.store = open_edge_store(folder, "k" * 40)
        self.asked = []
        self.ended = []
        self.fetcher = Fetcher(
            self.store, self.jobs, send=self.asked.append, done=lambda _, problem: self.ended.append(problem)
        )

    def turn(self):
        """Take what the store's thread has done."""
        deadline = time.monotonic() + 20
        while self.jobs.outstanding:
            assert time.monotonic() < deadline
            for call in self.mailbox.drain():
                call()

    def begin(self, content=Content.PAYLOAD):
        self.request = FetchBlob(content_digest(CONTENT), len(CONTENT), content)
        self.fetcher.begin(self.request, CHUNK)
        self.turn()

    def answer(self):
        """Answer the newest request."""
        fetch = self.asked[-1]
        part = CONTENT[fetch.offset : fetch.offset + fetch.length]
        self.fetcher.chunk(Chunk(fetch.digest, fetch.offset, len(CONTENT), part))
        self.turn()

    def answer_all(self):
        for _ in range(3):
            self.answer()

    def wait(self):
        """Let the time between two attempts pass."""
        self.fetcher.tick(0.0)
        self.fetcher.tick(RETRY_S)
        self.turn()


@pytest.fixture
def fetching(tmp_path):
    fetching = Fetching(tmp_path)
    yield fetching
    fetching.jobs.close()
    fetching.store.close()
    fetching.mailbox.close()


@pytest.mark.parametrize("content", list(Content))
def test_content_is_asked_for_once_and_then_kept(fetching, content):
    fetching.begin(content)
    fetching.answer_all()
    assert fetching.ended == [None]
    assert [fetch.offset for fetch in fetching.asked] == [0, 4096, 8192]
    assert fetching.store.has_blob(fetching.request.digest)


def test_only_content_that_the_fog_does_not_have_is_passed_over(fetching):
    fetching.begin()
    fetching.fetcher.unavailable(fetching.request.digest, ErrorCode.NOT_FOUND, "no such content")
    assert fetching.ended == [Problem("no such content", gone=True)]


def test_content_that_the_fog_cannot_read_now_is_asked_for_again(fetching):
    fetching.begin()
    fetching.answer()
    fetching.fetcher.unavailable(fetching.request.digest, ErrorCode.INTERNAL, "input/output error")
    assert fetching.ended == []
    fetching.wait()
    assert [fetch.offset for fetch in fetching.asked] == [0, 4096, 4096]
    fetching.answer()
    fetching.answer()
    assert fetching.ended == [None]


def test_content_that_cannot_be_written_now_is_asked_for_again(fetching):
    fetching.begin()
    incoming = fetching.store.incoming_folder
    shutil.rmtree(incoming)
    incoming.write_bytes(b"no folder")
    fetching.answer()
    assert fetching.ended == []
    incoming.unlink()
    fetching.wait()
    fetching.answer_all()
    assert fetching.ended == [None]


@pytest.mark.parametrize("content", [Content.ORIGINAL, Content.KEYFRAME])
def test_content_that_no_record_needs_to_be_stored_holds_nothing_up(fetching, content):
    fetching.begin(content)
    fetching.fetcher.unavailable(fetching.request.digest, ErrorCode.INTERNAL, "input/output error")
    assert fetching.ended == [Problem("input/output error")]
