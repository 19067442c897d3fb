"""Which fogs an edge talks to, what it asks of each, and what goes to which of them."""

import time

import pytest

from common.config import parse_settings
from common.errors import ConfigError
from common.frame import Frame, content_digest
from common.images import encode_jpeg
from common.node.mailbox import Mailbox
from common.ownership import FogShare, owner
from common.store import open_edge_store
from common.store.records import Record, RecordKind
from common.store.settings import EdgeStoreSettings
from common.wire import keys
from common.wire.messages import Chunk, Fetch, Plan, Pull, RecordMessage, Upload, Welcome
from edge_node.fogs import FogPart, KnownFog, known_fogs, parts
from edge_node.node import EdgeNode
from edge_node.settings import EdgeSettings, SubscriptionSettings

FOGS = tuple(KnownFog(f"tcp://{letter}:1", letter * 40) for letter in "abc")
SHARES = [FogShare(fog.key) for fog in FOGS]
DEVICES = [f"{number:040d}" for number in range(30)]
OWN = {device: owner(device, SHARES) for device in DEVICES}
DEVICE = DEVICES[0]


def wanted(**fields):
    return SubscriptionSettings.model_validate(fields)


# Settings


def test_one_fog_needs_no_list(tmp_path):
    settings = parse_settings(f"fog: {{address: tcp://one:1, public_key: '{'a' * 40}'}}", EdgeSettings)
    assert known_fogs(settings, tmp_path) == (KnownFog("tcp://one:1", "a" * 40),)


def test_several_fogs_are_listed_with_keys_or_files_of_keys(tmp_path):
    pair = keys.generate(tmp_path / "south")
    settings = parse_settings(
        "fogs:\n"
        f"  - {{address: 'tcp://north:1', public_key: '{'a' * 40}', weight: 2}}\n"
        "  - {address: 'tcp://south:1', public_key: south/public.key}\n",
        EdgeSettings,
    )
    assert known_fogs(settings, tmp_path) == (
        KnownFog("tcp://north:1", "a" * 40, 2.0),
        KnownFog("tcp://south:1", pair.public, 1.0),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fog: {address: 'tcp://a:1'}\nfogs: [{address: 'tcp://b:1'}]", "both fog and fogs are given"),
        ("fogs: [{address: 'tcp://b:1', weight: 0}]", "'fogs.0.weight'"),
        ("fogs: [{adress: 'tcp://b:1'}]", "unknown key 'adress'"),
        ("subscription: {at: everywhere}", "'subscription.at'"),
    ],
)
def test_fogs_that_make_no_sense_are_refused_in_one_sentence(text, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse_settings(text, EdgeSettings)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_no_key_and_no_file_is_named_with_its_place(tmp_path):
    settings = EdgeSettings.model_validate({"fogs": [{"public_key": "a" * 40}, {"public_key": "gone.key"}]})
    with pytest.raises(ConfigError, match=r"fogs\[1\].public_key is 'gone.key'"):
        known_fogs(settings, tmp_path)


def test_one_key_for_two_fogs_is_refused():
    with pytest.raises(ConfigError, match="two fogs have the public key"):
        parts(DEVICE, [FOGS[0], KnownFog("tcp://other:1", FOGS[0].key)], wanted())


# What is asked of which fog


@pytest.mark.parametrize("device", DEVICES[:8])
def test_the_own_fog_comes_first_and_only_it_is_asked_for_detectors(device):
    first, *others = parts(device, FOGS, wanted())
    assert first == FogPart(
        first.fog, True, ("*",), ("packet", "tombstone", "shared_part", "weights", *first.kinds[4:])
    )
    assert first.fog.key == OWN[device]
    assert {part.fog for part in (first, *others)} == set(FOGS)
    for part in others:
        assert not part.own
        assert part.devices == ("*",)
        assert "weights" not in part.kinds
        assert "packet" in part.kinds


def test_listed_devices_are_asked_for_everywhere_so_that_fogs_may_change():
    found = parts(DEVICE, FOGS, wanted(devices=DEVICES[3:5]))
    assert [part.devices for part in found] == [tuple(DEVICES[3:5])] * 3


def test_listed_devices_are_asked_for_at_their_owners_on_request():
    listed = DEVICES[1:10]
    found = parts(DEVICE, FOGS, wanted(devices=listed, at="owners"))
    assert sorted(key for part in found for key in part.devices) == sorted(listed)
    for part in found:
        assert {OWN[key] for key in part.devices} <= {part.fog.key}


def test_a_fog_that_has_nothing_for_this_edge_is_not_connected_to():
    elsewhere = next(device for device in DEVICES if OWN[device] != OWN[DEVICE])
    found = parts(DEVICE, FOGS, wanted(devices=[elsewhere], at="owners"))
    assert [(part.fog.key, part.devices) for part in found] == [
        (OWN[DEVICE], ()),
        (OWN[elsewhere], (elsewhere,)),
    ]
    assert [part.own for part in parts(DEVICE, FOGS, wanted(devices=[]))] == [True]
    assert [part.own for part in parts(DEVICE, FOGS, wanted(kinds=["weights"]))] == [True]


# What goes to which fog


class Edge:
    """A node over a real store whose fogs are lists of what was sent to them."""

    def __init__(self, folder, **settings):
        self.mailbox = Mailbox()
        self.store = open_edge_store(folder / "store", DEVICE, EdgeStoreSettings(min_free_bytes=0))
        self.parts = parts(DEVICE, FOGS[:2], SubscriptionSettings())
        self.sent = {part.fog.key: [] for part in self.parts}
        self.node = EdgeNode(
            EdgeSettings.model_validate({"training": {"mode": "never"}, **settings}),
            base=folder,
            folder=folder / "store",
            store=self.store,
            mailbox=self.mailbox,
            parts=self.parts,
            send=lambda part, message: self.sent[part.fog.key].append(message),
        )

    def welcome(self, place):
        session = self.node.sessions[place]
        key = session.part.fog.key
        session.welcomed(Welcome(1, 100 + place, 0, DEVICE, key, True, 1 << 20, 8, 1 << 16, 1.0))
        self.turn()

    def receive(self, place, message):
        self.node.sessions[place].received(message, 100)
        self.turn()

    def turn(self):
        end = time.monotonic() + 10
        while True:
            self.node.tick(time.monotonic())
            for call in self.mailbox.drain():
                call()
            if not self.node._jobs.outstanding:
                return
            assert time.monotonic() < end

    def of_type(self, kind):
        return [[m for m in self.sent[part.fog.key] if isinstance(m, kind)] for part in self.parts]


@pytest.fixture
def edge(tmp_path):
    edges = []

    def make(**settings):
        edges.append(Edge(tmp_path, **settings))
        return edges[-1]

    yield make
    for edge in edges:
        edge.node.close()
        edge.store.close()
        edge.mailbox.close()


def packet(number, image=None):
    payload = f"packet {number}".encode()
    meta = {}
    if image is not None:
        source = {"digest": content_digest(image).hex(), "size": len(image), "name": "n", "boxes": []}
        meta["source"] = {**source, "width": 8, "height": 8, "labelled": True, "validation": True}
    return RecordMessage.of(
        Record(
            1, RecordKind.PACKET, "e" * 40, 1, number, content_digest(payload), meta, len(payload), payload
        )
    )


def test_frames_are_uploaded_to_the_own_fog_only(edge, photo):
    one = edge()
    one.store.record_frame("a", Frame("a", encode_jpeg(photo, 90), 96, 72))
    one.welcome(1)
    assert one.of_type(Upload) == [[], []]
    one.welcome(0)
    assert [len(sent) for sent in one.of_type(Upload)] == [1, 0]


def test_each_log_is_pulled_from_its_own_position(edge):
    one = edge()
    for place in (0, 1):
        one.welcome(place)
        one.receive(place, packet(place))
    assert one.store.positions == {100: 1, 101: 1}
    assert one.store.count(RecordKind.PACKET) == 2
    one.node.sessions[1].disconnected()
    one.welcome(1)
    assert [pulls[0].position for pulls in one.of_type(Pull)] == [0, 0]
    assert [pulls[-1].position for pulls in one.of_type(Pull)] == [1, 1]
    hello = one.node.sessions[1].hello()
    assert (hello.log_id, hello.position, hello.devices) == (101, 1, ("*",))
    assert hello.kinds == (*one.parts[1].kinds, "gap")


def test_a_plan_of_another_fog_is_not_followed(edge):
    one = edge()
    for place, strategy in ((0, "edge"), (1, "fog")):
        one.welcome(place)
        one.receive(place, Plan(strategy, "because", strategy == "edge"))
    assert one.node.status()["plan"]["strategy"] == "edge"


def test_originals_are_fetched_from_the_fog_whose_record_names_them_within_one_bound(edge):
    one = edge(fetch={"validation_originals": 1})
    images = [b"image %d" % place for place in (0, 1)]
    one.welcome(0)
    one.welcome(1)
    one.receive(1, packet(1, images[1]))
    assert [[fetch.digest for fetch in sent] for sent in one.of_type(Fetch)] == [
        [],
        [content_digest(images[1])],
    ]
    one.receive(1, Chunk(content_digest(images[1]), 0, len(images[1]), images[1]))
    assert one.store.original_count() == 1
    one.receive(0, packet(0, images[0]))
    assert [len(sent) for sent in one.of_type(Fetch)] == [0, 1], "one is all that may be kept"


def test_another_fog_is_told_of_its_own_link_only(edge):
    one = edge()
    own, other = (one.node.report(session) for session in one.node.sessions)
    assert (own.frames_recorded, own.frames_expired, own.frames_refused) == (0, 0, 0)
    assert (other.frames_recorded, other.frames_expired) == (None, None)
    assert other.position == 0
