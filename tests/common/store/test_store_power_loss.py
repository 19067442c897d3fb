"""Power loss: whatever was not synced may be gone, and nothing acknowledged is.

A kill does not test this, because the page cache outlives the process. A real process runs under a shim that
writes down its operations on files; its disk is then rebuilt as the loss of power at some point may leave it.
"""

import hashlib
import random
import shutil
import textwrap

import pytest

from common.frame import content_digest
from common.store import open_edge_store, open_fog_store
from common.store.records import RecordKind
from common.store.settings import EdgeStoreSettings, FogStoreSettings
from tests.power_loss import after_power_loss, build_shim, record, steps_of

CAMERA = "c" * 40
FRAMES = 24
LARGE_EVERY = 4

FOG = FogStoreSettings(min_free_bytes=0, retention={"max_records": 12, "when_full": "drop_oldest"})
EDGE = EdgeStoreSettings(min_free_bytes=0, retention={"max_records": 8, "when_full": "drop_oldest"})

SCRIPT = textwrap.dedent(
    """
    import hashlib, os, sys, time
    from pathlib import Path
    from common.frame import Frame, FrameIdentity, content_digest
    from common.store import open_edge_store, open_fog_store
    from common.store.records import Record, RecordKind
    from tests.common.store import test_store_power_loss as facts

    root, role, synchronous = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    told = os.open(root / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if role == "fog":
        store = open_fog_store(root / "store", facts.FOG)
    else:
        store = open_edge_store(root / "store", "c" * 40, facts.EDGE)
    store._database.connection.execute(f"PRAGMA synchronous = {synchronous}")
    # Small, so that checkpoints are among what is interrupted.
    store._database.connection.execute("PRAGMA wal_autocheckpoint = 40")
    tell = lambda *what: os.write(told, (" ".join(map(str, what)) + "\\n").encode())
    if role == "edge":
        store.follow(1)
        tell("epoch", store.epoch)
    else:
        tell("log", store.log_id)
    for number in range(facts.FRAMES):
        frame = facts.frame(number)
        packet = facts.packet(number)
        if role == "fog":
            store.commit_frames([frame])
            tell("frame", number)
            if number >= 3:
                done = number - 3
                identity = facts.frame(done).identity
                tell("record", store.finish(identity, RecordKind.PACKET, {}, facts.packet(done)), done)
            if number % 6 == 5:
                store.retain(time.time())
        else:
            assert store.record_frame(str(number), frame) == number
            tell("frame", number)
            record = facts.record_of(number)
            if record.large:
                part = store.incoming_folder / "part"
                part.write_bytes(packet)
                store.adopt_blob(record.digest, part)
            store.apply([record], number + 1)
            tell("record", number + 1, number)
            if number % 3 == 2:
                store.acknowledge([number - 2])
                tell("acknowledged", number - 2)
            if number % 6 == 5:
                store.retain(time.time())
    os._exit(0)
    """
)


def image(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def frame(number):
    from common.frame import Frame, FrameIdentity

    size = 100_001 if number % LARGE_EVERY == 1 else 900
    identity = FrameIdentity(CAMERA, 1, number)
    return Frame(f"frame{number}", image(number, size), 64, 48, True, (), identity, number % 5 == 0)


def packet(number):
    return image(("packet", number), 100_001 if number % LARGE_EVERY == 2 else 1500)


def record_of(number):
    from common.store.records import Record

    data = packet(number)
    payload = None if len(data) > 100_000 else data
    digest = content_digest(data)
    return Record(number + 1, RecordKind.PACKET, "d" * 40, 1, number, digest, {}, len(data), payload)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library, reason = build_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip(reason)
    return library


@pytest.fixture(scope="module")
def traces(shim, tmp_path_factory):
    """Records each run once."""
    known = {}

    def trace(role, synchronous):
        if (role, synchronous) not in known:
            folder = tmp_path_factory.mktemp("run")
            record(shim, folder / "disk", folder / "trace", SCRIPT, role, synchronous)
            known[role, synchronous] = steps_of(folder / "trace", folder / "disk")
        return known[role, synchronous]

    return trace


def told_before(steps, point):
    """What the process had said when the power went."""
    inode = next(step.inode for step in steps if step.operation == "c" and step.path == "told")
    said = b"".join(s.data for s in steps[:point] if s.operation == "w" and s.inode == inode)
    return [line.split() for line in said.decode().splitlines()]


def lost_at_fog(folder, said):
    """Sentences about what was acknowledged and is not there; what is there is right."""
    lost = []
    with open_fog_store(folder, FOG) as store:
        logs = [int(value) for kind, value, *_ in said if kind == "log"]
        if logs and store.log_id != logs[0]:
            return ["the log has another id"]
        page = store.read(0, 1000, 1 << 30)
        records = {r.position: r for r in page.records if r.kind is not RecordKind.GAP}
        for position, entry in records.items():
            assert entry.digest == content_digest(packet(entry.number))
            assert store.blob(entry.digest, 0, entry.size) == packet(entry.number)
            assert position == entry.number + 1
        waiting = {item.identity.number: item.frame for item in store.pending_frames(1000)}
        for number, item in waiting.items():
            assert item == frame(number)
        for kind, *values in said:
            place = int(values[0])
            if kind == "frame" and place not in waiting and place + 1 not in records:
                if place + 1 >= store.oldest_position:
                    lost.append(f"frame {place}")
            elif kind == "record" and place >= store.oldest_position and place not in records:
                lost.append(f"record {place}")
        assert store.quarantined.items == 0
        store.commit_frames([frame(500)])
    return lost


def lost_at_edge(folder, said):
    lost = []
    with open_edge_store(folder, CAMERA, EDGE) as store:
        epochs = [int(value) for kind, value, *_ in said if kind == "epoch"]
        if epochs and store.epoch != epochs[0]:
            return ["the epoch is another one"]
        waiting = {f.identity.number: f for f in store.unacknowledged(1000, 1 << 30)}
        for number, item in waiting.items():
            assert item.image == frame(number).image
        with store.training_view() as view:
            packets = dict(view.packets_after(0, 1000))
            assert view.damaged == ()
        numbers = {r.number: place for place, r in store.records(0, 1000)}
        for number, place in numbers.items():
            assert packets[place] == packet(number)
        acknowledged = {int(value) for kind, value, *_ in said if kind == "acknowledged"}
        oldest = min(numbers, default=0)
        for kind, *values in said:
            if kind == "frame" and store.recorded(values[0]) is None:
                lost.append(f"frame {values[0]}")
            elif kind == "frame" and int(values[0]) not in waiting and int(values[0]) not in acknowledged:
                # Its acknowledgement may have been stored without being told.
                if store.outbox_state().acknowledged <= len(acknowledged):
                    lost.append(f"frame {values[0]}")
            elif kind == "record" and store.position < int(values[0]):
                lost.append(f"position {values[0]}")
            elif kind == "record" and int(values[1]) >= oldest and int(values[1]) not in numbers:
                lost.append(f"record {values[0]}")
        assert store.refused() == []
        assert store.quarantined.items == 0
        store.record_frame("more", frame(500))
    return lost


def losses(steps, role, seeds, tmp_path):
    """(seed, what was lost) of every seed that lost something acknowledged."""
    found = []
    first = next(index for index, step in enumerate(steps) if step.path == "told") + 1
    for seed in seeds:
        source = random.Random(seed)
        point = source.randrange(first, len(steps) + 1)
        folder = tmp_path / f"{role}{seed}"
        after_power_loss(steps, point, source, folder)
        said = told_before(steps, point)
        check = lost_at_fog if role == "fog" else lost_at_edge
        try:
            lost = check(folder / "store", said)
        except Exception as error:
            lost = [f"{type(error).__name__}: {error}"]
        if lost:
            found.append((seed, point, lost))
        shutil.rmtree(folder)
    return found


@pytest.mark.parametrize("role", ["fog", "edge"])
def test_nothing_acknowledged_is_lost_with_the_power(traces, tmp_path, role):
    assert losses(traces(role, "FULL"), role, range(60), tmp_path) == []


@pytest.mark.parametrize("role", ["fog", "edge"])
def test_the_check_notices_a_store_that_does_not_sync_its_commits(traces, tmp_path, role):
    found = losses(traces(role, "NORMAL"), role, range(30), tmp_path)
    assert len(found) >= 3, "synchronous=NORMAL must lose acknowledged commits"
    assert any("frame" in sentence or "record" in sentence for _, _, lost in found for sentence in lost)


@pytest.mark.parametrize("role", ["fog", "edge"])
def test_the_check_notices_files_that_are_not_synced(traces, tmp_path, role):
    """The same run, but syncs of content files and of their folders are taken out of the trace."""
    steps = traces(role, "FULL")
    unsynced = [step for step in steps if step.operation != "s" or "blobs" not in step.path]
    assert len(unsynced) < len(steps)
    assert losses(unsynced, role, range(30), tmp_path) != []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ["fog", "edge"])
def test_nothing_acknowledged_is_lost_with_the_power_at_a_thousand_points(traces, tmp_path, role):
    assert losses(traces(role, "FULL"), role, range(1000, 2000), tmp_path) == []
