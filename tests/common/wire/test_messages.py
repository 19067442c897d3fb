"""Messages survive the wire, and nothing else does."""

import dataclasses
import tracemalloc
import typing

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import BoxError, MessageError, MessageVersionError, WireError
from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.records import INLINE_LIMIT_BYTES, Record, RecordKind
from common.wire import messages as wire
from common.wire.framing import MAX_HEADER_BYTES, decode, encode
from common.wire.messages import MAX_BOXES, MAX_PAYLOAD_BYTES, PROTOCOL_VERSION

KEY = "aB3.-:+=^!/*?&<>()[]{}@%$#0123456789abcd"
LAST = 2**64 - 1

FRAME = Frame(
    "img0001",
    b"jpeg bytes",
    640,
    360,
    True,
    (Box(-1.5, 0, 10, 20.25, "Auto ü"),),
    FrameIdentity(KEY, LAST, 7),
    True,
)
RECORD = Record(
    5, RecordKind.PACKET, KEY, LAST, 7, content_digest(b"packet"), {"seconds": 1.5, "note": "ü"}, 6, b"packet"
)
EXAMPLES = [
    wire.Hello(epoch=LAST, position=3, log_id=9, devices=(KEY, "*"), kinds=("packet",), software="0.1"),
    wire.Upload.of(FRAME),
    wire.Correct(LAST, 7, 65_535, True, ((-1.5, 0.0, 10.0, 20.25, "Auto ü"),)),
    wire.Pull(position=2**63 - 1, records=10, payload_bytes=100),
    wire.Fetch(digest=bytes(32), offset=0, length=4096),
    wire.Report(decode_frames_per_second=12.5, map50=0.5),
    wire.Ping(),
    wire.Welcome(1, 2, 3, KEY, KEY, True, 1 << 20, 32, 4096, 1.0),
    wire.Accepted(epoch=1, numbers=(1, 2, LAST)),
    wire.Refused(1, 2, wire.ErrorCode.BAD_BOX, "a box is no region", True),
    wire.Corrected(1, 2, 3, "conflict", "used for other labels", True),
    wire.RecordMessage.of(RECORD),
    wire.CaughtUp(position=7),
    wire.Chunk(digest=bytes(32), offset=5, total=10, payload=b"12345"),
    wire.Plan("fog_edge", "because it pays", True),
    wire.Pong(),
    wire.Error("not_found", "no such content", bytes(32)),
]


def header(**fields):
    """A header made by hand."""
    return [msgpack.packb({"v": PROTOCOL_VERSION, **fields})]


def test_there_is_an_example_of_every_message():
    assert {type(message) for message in EXAMPLES} == set(typing.get_args(wire.Message))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message):
    frames = encode(message)
    assert decode(frames) == message
    assert len(frames) == (2 if hasattr(message, "payload") else 1)


def test_a_frame_survives_its_upload():
    assert decode(encode(wire.Upload.of(FRAME))).to_frame(KEY) == FRAME


def test_any_file_name_can_be_uploaded():
    upload = wire.Upload.of(dataclasses.replace(FRAME, name="caf\udce9" + "x" * 300))
    assert decode(encode(upload)).name == "caf?" + "x" * 251


def test_a_record_survives_its_message():
    for record in (
        RECORD,
        Record.gap(LAST, 3, 9, "behind retention"),
        dataclasses.replace(RECORD, size=INLINE_LIMIT_BYTES + 1, payload=None),
    ):
        assert decode(encode(wire.RecordMessage.of(record))).to_record() == record


# Versions


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_the_next_version_is_understood(message):
    assert decode(encode(message, version=PROTOCOL_VERSION + 1)) == message
    assert decode(encode(message), version=PROTOCOL_VERSION + 1) == message


def test_other_versions_are_refused_and_say_who_must_update():
    with pytest.raises(MessageVersionError, match=r"version 9 is not understood.*update this node"):
        decode(encode(wire.Ping(), version=9))
    with pytest.raises(MessageVersionError):
        decode(encode(wire.Ping(), version=PROTOCOL_VERSION + 2))
    with pytest.raises(MessageVersionError, match="update the peer"):
        decode(encode(wire.Ping(), version=1), version=9)


def test_fields_of_a_newer_version_are_ignored():
    assert decode(header(t="CaughtUp", position=3, later={"a": [1, "x"]})) == wire.CaughtUp(3)


def test_optional_fields_may_be_missing():
    assert decode(header(t="Hello", epoch=1, position=0)) == wire.Hello(1, 0)


# What is refused


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"epoch": -1}, "epoch"),
        ({"epoch": 2**64 - 1, "number": 1.0}, "number"),
        ({"number": True}, "number"),
        ({"number": "1"}, "number"),
        ({"name": "x" * 256}, "name"),
        ({"name": b"x"}, "name"),
        ({"width": 0}, "width"),
        ({"width": 70_000}, "width"),
        ({"labelled": 1}, "labelled"),
        ({"boxes": [[1, 2, 3, 4]]}, "boxes.0"),
        ({"boxes": [[1, 2, 3, 4, "x" * 101]]}, "boxes.0.4"),
        ({"boxes": [["1", 2, 3, 4, "x"]]}, "boxes.0.0"),
        ({"boxes": [[1, 2, 3, 4, "x"]] * (MAX_BOXES + 1)}, "boxes"),
        ({"boxes": None}, "boxes"),
        ({"digest": b"short"}, "digest"),
    ],
)
def test_every_field_of_an_upload_is_checked(change, place):
    first, payload = encode(wire.Upload.of(FRAME))
    fields = {**msgpack.unpackb(first), **change}
    with pytest.raises(MessageError, match=f"field '{place}"):
        decode([msgpack.packb(fields), payload])


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([], "1 or 2 frames"),
        ([b"x"] * 3, "1 or 2 frames"),
        ([b""], "no msgpack map"),
        ([b"\xc1"], "no msgpack map"),
        ([msgpack.packb([1, 2])], "must be a map"),
        ([msgpack.packb({"t": "Ping"})], "without a protocol version"),
        ([msgpack.packb({"v": True, "t": "Ping"})], "without a protocol version"),
        ([msgpack.packb({"v": 1, 2: 3})], "no text|no msgpack map"),
        (header(t="Nonsense"), "unknown message type 'Nonsense'"),
        (header(t=5), "unknown message type"),
        (header(), "unknown message type"),
        (header(t="Ping", extra=float("nan")), "not finite"),
        (header(t="Ping", extra=[[[[1]]]]), "nested deeper"),
        (header(t="Ping", extra=[{}] * 65), "more than 64 maps"),
        (header(t="Ping", extra=msgpack.ExtType(1, b"")), "no msgpack map|extension"),
        (header(t="Ping", extra=msgpack.Timestamp(1)), "no msgpack map|extension|type"),
        (header(t="Chunk", digest=bytes(32), offset=0, total=1, payload=b"x"), "inside its header"),
        (header(t="Chunk", digest=bytes(32), offset=0, total=1), "without its payload frame"),
        ([*header(t="Ping"), b"x"], "with a payload frame"),
        (header(t="Pull", position=1, records=1), "field 'payload_bytes' of a Pull"),
        (header(t="CaughtUp", position=2**63), "field 'position'"),
        (header(t="Hello", epoch=1, position=0, devices=["short"]), "field 'devices.0"),
        (header(t="Hello", epoch=1, position=0, kinds=["nonsense"]), "field 'kinds.0"),
        ([b"\x83\xa1v\x01\xa1t\xa4Ping\xa1t\xa4Pong"], "duplicate key"),
        ([bytes(MAX_HEADER_BYTES + 1)], "header of 400001 bytes"),
        ([*header(t="Chunk"), bytes(MAX_PAYLOAD_BYTES + 1)], "payload of 67108865 bytes"),
    ],
)
def test_a_malformed_message_is_refused_in_one_sentence(frames, sentence):
    with pytest.raises(MessageError, match=sentence) as caught:
        decode(frames)
    assert "\n" not in str(caught.value)


def test_a_field_that_the_peer_would_refuse_is_not_sent():
    with pytest.raises(MessageError, match="field 'sentence' of a Error"):
        encode(wire.Error("full", "x" * 3_000))
    with pytest.raises(MessageError, match=r"field 'boxes\.0"):
        encode(dataclasses.replace(wire.Upload.of(FRAME), boxes=((float("nan"), 0.0, 1.0, 1.0, "car"),)))


@pytest.mark.parametrize("box", [(5.0, 0.0, 5.0, 1.0, "car"), (5.0, 0.0, 1.0, 1.0, "car")])
def test_a_box_without_size_is_a_box_error_of_that_frame_alone(box):
    upload = decode(encode(dataclasses.replace(wire.Upload.of(FRAME), boxes=(box,))))
    with pytest.raises(BoxError, match="no positive width and height"):
        upload.to_frame(KEY)


def test_an_image_that_does_not_match_its_digest_is_refused():
    with pytest.raises(MessageError, match="frame 7 does not match its digest"):
        dataclasses.replace(wire.Upload.of(FRAME), payload=b"other").to_frame(KEY)


def test_boxes_of_an_unlabelled_frame_are_refused():
    with pytest.raises(MessageError, match="unlabelled"):
        dataclasses.replace(wire.Upload.of(FRAME), labelled=False).to_frame(KEY)


def test_a_frame_without_number_is_not_uploaded():
    with pytest.raises(MessageError, match="record it first"):
        wire.Upload.of(dataclasses.replace(FRAME, identity=None))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"payload": b"damage"}, "does not match its digest"),
        ({"size": 7}, "does not match its digest"),
        ({"large": True, "payload": b""}, "is not"),
        ({"large": True, "size": 200_000}, "is not"),
        ({"meta": "[]"}, "no JSON object"),
        ({"meta": "{"}, "no JSON"),
        ({"meta": '{"a": NaN}'}, "no JSON"),
        ({"meta": "[" * 100_000}, "no JSON"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change, sentence):
    with pytest.raises(MessageError, match=f"record 5.*{sentence}"):
        decode(encode(dataclasses.replace(wire.RecordMessage.of(RECORD), **change))).to_record()


# Hostile bytes


def attempt(frames):
    """Decode and read; only a typed error may come out, of one short sentence."""
    sentence = ""
    try:
        message = decode(frames)
        if isinstance(message, wire.Upload):
            message.to_frame(KEY)
        elif isinstance(message, wire.RecordMessage):
            message.to_record()
    except (WireError, BoxError) as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert len(sentence) < 1_000


@st.composite
def mutated(draw):
    """A legal message with some bytes changed, cut out, put in or doubled."""
    frames = [bytearray(part) for part in encode(draw(st.sampled_from(EXAMPLES)))]
    for _ in range(draw(st.integers(1, 6))):
        part = frames[draw(st.integers(0, len(frames) - 1))]
        place = draw(st.integers(0, len(part)))
        action = draw(st.sampled_from(["set", "cut", "put", "double", "move"]))
        if action == "set" and place < len(part):
            part[place] = draw(st.integers(0, 255))
        elif action == "cut":
            del part[place : place + draw(st.integers(1, 20))]
        elif action == "put":
            part[place:place] = draw(st.binary(min_size=1, max_size=12))
        elif action == "double":
            part[place:place] = part[place : place + draw(st.integers(1, 40))]
        elif len(frames) == 1:
            frames.append(bytearray(draw(st.binary(max_size=20))))
        else:
            frames.reverse()
    return [bytes(part) for part in frames]


@settings(max_examples=1_500, deadline=None)
@given(mutated())
def test_mutated_messages_raise_typed_errors_only(frames):
    attempt(frames)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=50)
    | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_any_value_in_any_field_raises_typed_errors_only(message, data):
    first, *rest = encode(message)
    fields = msgpack.unpackb(first)
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(VALUES)
    attempt([msgpack.packb(fields), *rest])


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=3))
@example([b"\xdf\xff\xff\xff\xff"])
def test_random_bytes_raise_typed_errors_only(frames):
    attempt(frames)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
        b"\xdc\x04\x00" * 100_000,
        b"\xdd\x00\x01\x00\x00" * 79_000,
        b"\x81\xa1a\xdc\x04\x00" + b"\x90" * 300_000,
        b"\x81\xa1a\xdc\x04\x00" + (b"\xdc\x01\x60" + b"\x80" * 352) * 1_024,
        b"\x81\xa1a\xdc\x04\x00" + (b"\xdc\x01\x60" + b"\x90" * 352) * 1_024,
    ],
    ids=range(12),
)
def test_a_header_that_promises_much_allocates_little(bomb):
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            decode([bomb])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
