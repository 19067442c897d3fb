"""How many fogs a number of cameras needs, and what asks for so many."""

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError
from common.ownership import FogShare, owned
from common.planning.sizing import FogCapacity, Footprint, busiest_share, size

FOOTPRINT = Footprint(
    frames_per_s=0.1, jpeg_bytes=70_000, packet_bytes=3_000, receivers=9, stored_bytes=5_000, peak=2.0
)
FOG = FogCapacity(
    encoders=16,
    encode_s=2.0,
    io_s_per_upload=1e-3,
    io_s_per_record=1e-4,
    disk_s=0.002,
    retention_days=30,
    uplink_bytes_per_s=1.25e8,
    downlink_bytes_per_s=1.25e8,
    disk_bytes=4e12,
)


def changed(**fields):
    return dataclasses.replace(FOG, **fields)


def test_a_few_cameras_need_one_fog_and_the_busiest_resource_is_named():
    answer = size(10, FOOTPRINT, FOG)
    assert (answer.fogs, answer.binds, answer.busiest) == (1, "encoding", 10)
    # 10 cameras, 0.2 frames a second each at the peak, 2 s each: 4 of 16 encoders.
    assert answer.encoders_busy == pytest.approx(4)
    used = {need.name: need.used for need in answer.needs}
    assert used["encoding"] == pytest.approx(4 / 16)
    assert used["the uplink"] == pytest.approx(10 * 0.2 * 70_000 / 1.25e8)
    assert answer.sentence == "1 fog node for 10 cameras; encoding is used most, 25.0%"
    assert answer.disk_bytes_per_day == pytest.approx(10 * 0.1 * 86_400 * 5_000)
    assert answer.disk_bytes == 30 * answer.disk_bytes_per_day
    assert answer.downlink_bytes_per_s == pytest.approx(10 * 0.2 * 9 * 3_000)


def test_many_cameras_need_a_little_more_fogs_than_their_sum_since_shares_are_uneven():
    answer = size(1000, FOOTPRINT, FOG)
    # 28 cameras fit a fog; 1,000 / 28 = 36 would do if shares were even.
    assert {need.name: need.cameras for need in answer.needs}["encoding"] == pytest.approx(28)
    assert 36 < answer.fogs < 90
    assert answer.busiest <= 28
    assert "encoding asks for so many" in answer.sentence


@pytest.mark.parametrize(
    ("fog", "binds"),
    [
        (changed(encode_s=0.001, io_s_per_record=0.01), "the daemon"),
        (changed(encode_s=0.001, disk_s=0.1), "the disk's writing"),
        (changed(encode_s=0.001, uplink_bytes_per_s=1e6), "the uplink"),
        (changed(encode_s=0.001, downlink_bytes_per_s=1e5), "the downlink"),
        (changed(encode_s=0.001, disk_bytes=1e10), "the disk"),
    ],
)
def test_what_is_scarce_binds(fog, binds):
    assert size(10_000, FOOTPRINT, fog).binds == binds


def test_what_costs_nothing_never_binds():
    free = FogCapacity(1, 0.0, 0.0, 0.0, 0.0, 1.0)
    answer = size(100_000, FOOTPRINT, free)
    assert (answer.fogs, answer.binds) == (1, "")
    assert answer.sentence == "1 fog node for 100,000 cameras"


@given(
    st.integers(1, 200_000),
    st.floats(0.001, 30),
    st.floats(0.001, 5),
    st.integers(1, 64),
    st.floats(1e6, 1e9),
)
def test_no_resource_of_the_busiest_fog_is_overloaded_and_one_fog_fewer_would_be(
    cameras, rate, encode_s, encoders, link
):
    footprint = dataclasses.replace(FOOTPRINT, frames_per_s=rate)
    fog = changed(encode_s=encode_s, encoders=encoders, downlink_bytes_per_s=link)
    if rate * 2 * encode_s > encoders * 0.7 or rate * 2 * 27_000 > 0.7 * link:
        with pytest.raises(ConfigError, match="more than a fog can carry"):
            size(cameras, footprint, fog)
        return
    answer = size(cameras, footprint, fog)
    assert all(need.used <= (1 if need.name == "the disk" else fog.load) + 1e-9 for need in answer.needs)
    if answer.fogs > 1:
        carried = min(need.cameras for need in answer.needs)
        assert busiest_share(cameras, answer.fogs - 1) > carried


@given(st.integers(1, 100_000), st.floats(1.01, 50))
def test_quicker_encoders_never_need_more_fogs(cameras, factor):
    quicker = changed(encode_s=FOG.encode_s / factor)
    assert size(cameras, FOOTPRINT, quicker).fogs <= size(cameras, FOOTPRINT, FOG).fogs


@pytest.mark.parametrize("fogs", [3, 20, 60])
def test_the_busiest_share_is_that_of_real_keys(fogs):
    source = random.Random(fogs)
    most = []
    for _ in range(6):
        shares = [FogShare(f"{source.random()}") for _ in range(fogs)]
        devices = [f"{source.random()}" for _ in range(3000)]
        most.append(max(len(devices) for devices in owned(devices, shares).values()))
    mean = sum(most) / len(most)
    assert 0.93 * busiest_share(3000, fogs) < mean < 1.03 * busiest_share(3000, fogs)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: size(0, FOOTPRINT, FOG), "give at least 1"),
        (lambda: size(1, FOOTPRINT, changed(encode_s=1000.0)), "encoding is enough for 0.056"),
        (lambda: changed(load=0.0), "a load above 0"),
        (lambda: changed(encoders=0), "at least one encoder"),
        (lambda: changed(encode_s=-1.0), "encode_s between 0"),
        (lambda: dataclasses.replace(FOOTPRINT, peak=0.5), "a peak of at least 1"),
        (lambda: dataclasses.replace(FOOTPRINT, frames_per_s=math.nan), "frames_per_s between 0"),
    ],
)
def test_figures_that_make_no_sense_are_refused_in_one_sentence(change, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        change()
    assert "\n" not in str(caught.value)
