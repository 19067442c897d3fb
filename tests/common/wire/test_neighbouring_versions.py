"""Nodes are updated one after the other: messages of the version before and the one after are understood."""

import dataclasses
import json
from pathlib import Path

import msgpack
import pytest

from common.errors import MessageError, UnknownMessageError
from common.store.records import RecordKind
from common.wire.fields import FEATURES, PROTOCOL_VERSION
from common.wire.framing import decode, encode
from common.wire.messages import Hello, Refused, Upload, Welcome
from fog_node.sessions import wanted_kinds
from tests.common.wire.test_messages import EXAMPLES

GOLDEN = json.loads((Path(__file__).parent / "golden" / "version_1.json").read_text())
OLD = [message for message in EXAMPLES if type(message).__name__ in GOLDEN]
"""Examples of the messages that version 1 had."""


def golden(name):
    return [bytes.fromhex(part) for part in GOLDEN[name]]


@pytest.mark.parametrize("message", OLD, ids=lambda m: type(m).__name__)
def test_what_version_1_wrote_is_read(message):
    """The bytes were written by the first release; they must never be made anew."""
    assert decode(golden(type(message).__name__)) == message


@pytest.mark.parametrize("message", OLD, ids=lambda m: type(m).__name__)
def test_version_1_reads_what_is_written_here(message):
    """It checks the fields that it knows and ignores the others: none of those may be missing or changed."""
    ours, theirs = (
        msgpack.unpackb(frames[0]) for frames in (encode(message), golden(type(message).__name__))
    )
    assert ours.pop("v") - theirs.pop("v") == 1
    assert {name: ours[name] for name in theirs} == theirs


def test_a_field_added_since_version_1_has_a_default():
    for message in OLD:
        known = msgpack.unpackb(golden(type(message).__name__)[0]).keys() | {"payload"}
        for field in dataclasses.fields(message):
            assert field.name in known or field.default is not dataclasses.MISSING, field


def test_features_are_told_and_unknown_ones_passed_over():
    assert decode(golden("Hello")).features == ()
    assert decode(golden("Welcome")).features == ()
    hello = Hello(epoch=1, position=0, features=(*FEATURES, "of-tomorrow"))
    assert decode(encode(hello)).features[-1] == "of-tomorrow"


def test_kinds_of_records_that_only_the_edge_knows_are_passed_over():
    hello = Hello(epoch=1, position=0, kinds=("packet",), more_kinds=("of-tomorrow", "weights"))
    assert wanted_kinds(decode(encode(hello))) == {RecordKind.PACKET, RecordKind.WEIGHTS, RecordKind.GAP}


def test_a_message_type_of_tomorrow_is_told_apart_from_a_malformed_message():
    header = msgpack.packb({"v": PROTOCOL_VERSION + 1, "t": "OfTomorrow", "x": 1})
    with pytest.raises(UnknownMessageError, match="unknown message type 'OfTomorrow'"):
        decode([header])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Upload", {"priority": 10}),
        ("Upload", {"priority": -1}),
        ("Refused", {"retry_after_s": -1.0}),
        ("Refused", {"retry_after_s": 1e9}),
        ("Hello", {"features": ["x" * 41]}),
        ("Hello", {"more_kinds": ["k"] * 33}),
        ("Welcome", {"features": [1]}),
    ],
)
def test_the_new_fields_are_checked_too(name, change):
    first, *rest = golden(name)
    with pytest.raises(MessageError, match=f"field '{next(iter(change))}"):
        decode([msgpack.packb({**msgpack.unpackb(first), "v": 2, **change}), *rest])


def test_new_fields_survive_the_wire():
    upload = dataclasses.replace(decode(golden("Upload")), priority=9)
    refused = Refused(1, 2, "too_fast", "wait", False, 2.5)
    welcome = dataclasses.replace(decode(golden("Welcome")), features=FEATURES)
    for message in (upload, refused, welcome):
        assert decode(encode(message)) == message
    assert isinstance(upload, Upload)
    assert isinstance(welcome, Welcome)
