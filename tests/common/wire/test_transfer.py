"""Large payloads arrive in chunks, whole or not at all."""

import errno
import random

import pytest

from common.errors import MessageError, StoreFullError
from common.frame import content_digest
from common.store.records import RecordKind
from common.store.settings import FogStoreSettings
from common.store.sqlite_edge import SqliteEdgeStore
from common.store.sqlite_fog import SqliteFogStore
from common.wire.messages import Chunk
from common.wire.transfer import BlobReceiver

CONTENT = random.Random(1).randbytes(25_000)
DIGEST = content_digest(CONTENT)


def answer(fetch, content=CONTENT):
    """The chunk that a fog sends for a Fetch."""
    part = content[fetch.offset : fetch.offset + fetch.length]
    return Chunk(fetch.digest, fetch.offset, len(content), part)


def receiver(folder):
    return BlobReceiver(folder, DIGEST, len(CONTENT), chunk_bytes=10_000)


def run(receiving, content=CONTENT):
    while (fetch := receiving.request()) is not None:
        assert receiving.accept(answer(fetch, content))


def test_chunks_make_the_whole(tmp_path):
    receiving = receiver(tmp_path)
    assert [receiving.request().offset, receiving.request().length] == [0, 10_000]
    run(receiving)
    assert receiving.complete
    assert receiving.verify().read_bytes() == CONTENT


def test_it_goes_on_where_it_was_stopped(tmp_path):
    first = receiver(tmp_path)
    first.accept(answer(first.request()))
    second = receiver(tmp_path)
    assert (second.received, second.request().offset) == (10_000, 10_000)
    run(second)
    assert second.verify().read_bytes() == CONTENT


def test_repeated_late_and_foreign_chunks_are_ignored(tmp_path):
    receiving = receiver(tmp_path)
    chunk = answer(receiving.request())
    assert receiving.accept(chunk)
    assert not receiving.accept(chunk)
    assert not receiving.accept(Chunk(bytes(32), 10_000, len(CONTENT), b"x"))
    run(receiving)
    assert not receiving.accept(chunk)
    assert receiving.verify().read_bytes() == CONTENT


def test_damaged_content_is_fetched_anew(tmp_path):
    receiving = receiver(tmp_path)
    run(receiving, bytes(len(CONTENT)))
    with pytest.raises(MessageError, match="fetched anew"):
        receiving.verify()
    assert receiving.received == 0
    run(receiving)
    assert receiving.verify().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("chunk", "sentence"),
    [
        (Chunk(DIGEST, 0, len(CONTENT) + 1, CONTENT[:10_000]), "not the 25000"),
        (Chunk(DIGEST, 0, len(CONTENT), b""), "chunk of 0 bytes"),
        (Chunk(DIGEST, 0, len(CONTENT), CONTENT[:10_001]), "chunk of 10001 bytes"),
    ],
)
def test_a_chunk_that_was_not_asked_for_like_this_is_refused(tmp_path, chunk, sentence):
    receiving = receiver(tmp_path)
    with pytest.raises(MessageError, match=sentence):
        receiving.accept(chunk)
    assert receiving.received == 0


def test_incomplete_content_is_not_handed_on(tmp_path):
    with pytest.raises(MessageError, match="not complete"):
        receiver(tmp_path).verify()


def test_a_leftover_that_is_too_long_is_dropped(tmp_path):
    receiver(tmp_path).path.write_bytes(bytes(30_000))
    assert receiver(tmp_path).received == 0


def test_a_full_disk_is_typed_and_the_chunk_fits_later(tmp_path, monkeypatch):
    receiving = receiver(tmp_path)
    chunk = answer(receiving.request())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", full)
        with pytest.raises(StoreFullError, match="no space left"):
            receiving.accept(chunk)
    assert receiving.accept(chunk)
    run(receiving)
    assert receiving.verify().read_bytes() == CONTENT


def test_unwanted_content_leaves_no_file(tmp_path):
    receiving = receiver(tmp_path)
    receiving.accept(answer(receiving.request()))
    receiving.discard()
    assert list(tmp_path.iterdir()) == []


def test_weights_travel_from_a_fogs_store_to_an_edges(tmp_path):
    weights = random.Random(2).randbytes(250_001)
    with (
        SqliteFogStore(tmp_path / "fog", FogStoreSettings(min_free_bytes=0)) as fog,
        SqliteEdgeStore(tmp_path / "edge", "c" * 40) as edge,
    ):
        fog.append(RecordKind.WEIGHTS, "f" * 40, 1, 0, {}, weights)
        page = fog.read(0, 10, 1 << 20)
        record = page.records[0]
        receiving = BlobReceiver(edge.incoming_folder, record.digest, record.size, 64_000)
        while (fetch := receiving.request()) is not None:
            part = fog.blob(fetch.digest, fetch.offset, fetch.length)
            receiving.accept(Chunk(fetch.digest, fetch.offset, fog.blob_size(fetch.digest), part))
        edge.adopt_blob(record.digest, receiving.verify())
        edge.apply(page.records, page.through)
        assert edge.training_view().latest_weights()[1] == weights
