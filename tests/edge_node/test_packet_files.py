"""Packets on disk that refer to others: the keyframe is found among the files beside them."""

import dataclasses

import numpy as np
import pytest

from common.bitstream import Reference, decode_packet, encode_packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.errors import KeyframeError
from common.frame import content_digest
from common.images import decode_image
from edge_node.decode_command import decode_files
from tests.packets import random_packet


def dependant(keyframe, homography=None):
    """A packet that shows the background of ``keyframe`` (bytes)."""
    background = Reference(content_digest(keyframe), homography)
    packet = dataclasses.replace(decode_packet(keyframe), background=background, objects=(), identity=None)
    return encode_packet(packet)


@pytest.fixture
def keyframe():
    return encode_packet(random_packet(3, boxes=0))


@pytest.fixture
def folder(tmp_path, keyframe):
    folder = tmp_path / "packets"
    folder.mkdir()
    (folder / "a.rinr").write_bytes(dependant(keyframe))
    (folder / "b.rinr").write_bytes(keyframe)
    return folder


def test_a_keyframe_is_found_whatever_its_name_and_order(folder, tmp_path):
    report, damaged = decode_files(folder, tmp_path / "out")
    assert (report["frames"], damaged) == (2, [])
    first, second = [decode_image((tmp_path / "out" / f"{name}.png").read_bytes()) for name in "ab"]
    assert np.array_equal(first, second)


def test_one_packet_finds_its_keyframe_in_its_folder(folder, tmp_path):
    report, damaged = decode_files(folder / "a.rinr", tmp_path / "out")
    assert (report["frames"], damaged) == (1, [])


def test_a_packet_without_its_keyframe_is_passed_over_in_one_sentence(folder, tmp_path):
    (folder / "b.rinr").write_bytes(encode_packet(random_packet(4, boxes=0)))
    report, (sentence,) = decode_files(folder, tmp_path / "out")
    assert report["frames"] == 1
    assert sentence.startswith(f"{folder / 'a.rinr'} needs the keyframe ")
    assert "put the keyframe's file beside it" in sentence
    assert "\n" not in sentence


def test_files_that_come_later_are_found(folder, keyframe):
    files = KeyframeFiles(folder)
    other = encode_packet(random_packet(5, boxes=0))
    with pytest.raises(KeyframeError):
        files.require(folder / "c.rinr", decode_packet(dependant(other)))
    (folder / "d.rinr").write_bytes(other)
    files.require(folder / "c.rinr", decode_packet(dependant(other)))
    assert encode_packet(files[content_digest(other)]) == other
    assert content_digest(keyframe) in files
    assert len(files) == 3


def test_a_file_that_was_replaced_is_no_longer_the_keyframe(folder, keyframe):
    files = KeyframeFiles(folder)
    assert content_digest(keyframe) in files
    (folder / "b.rinr").write_bytes(encode_packet(random_packet(6, boxes=0)))
    assert files.get(content_digest(keyframe)) is None


def test_a_file_that_is_no_packet_is_no_keyframe(folder):
    (folder / "junk.rinr").write_bytes(b"junk")
    files = KeyframeFiles(folder)
    assert files.get(content_digest(b"junk")) is None
