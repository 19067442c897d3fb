"""When frames refer to a keyframe and when a new one begins: decisions by bytes, without pixels."""

import pytest

from fog_node.encoders.stream import Stream, keyframe_gain_db


def began(still=1000):
    stream = Stream()
    stream.began(still)
    return stream


def sent(costs, still=1000):
    """How a camera whose references cost so many bytes, counted from the keyframe, is encoded."""
    stream, kinds, since = Stream(), "", 0
    for _ in range(3 * len(costs)):
        cost = costs[min(since, len(costs) - 1)] if stream.frames else None
        if cost is not None and (stream.is_sure(cost) or stream.prefers_reference(cost, still)):
            stream.referred(cost)
            kinds += "r"
            since += 1
        else:
            stream.began(still)
            kinds += "K"
            since = 0
    return kinds, stream


def test_the_first_frame_is_a_still():
    assert not Stream().is_sure(0)
    assert not Stream().prefers_reference(0, 1000)


def test_a_reference_that_costs_next_to_nothing_is_taken_without_asking_for_a_still():
    assert began().is_sure(40)


def test_a_reference_that_is_not_clearly_cheaper_is_compared_with_a_still():
    stream = began()
    assert not stream.is_sure(700)
    assert stream.prefers_reference(700, 1000)
    assert not stream.prefers_reference(700, 650)


def test_a_still_scene_keeps_its_keyframe():
    assert sent([40] * 10)[0] == "K" + "r" * 29


def test_a_new_keyframe_begins_when_the_next_reference_costs_more_than_the_mean_so_far():
    kinds, _ = sent([300, 500, 900, 900])
    assert kinds.startswith("KrrKrrK")


def test_references_as_large_as_stills_are_never_sent():
    assert sent([1000] * 5)[0] == "K" * 15


def test_a_reference_is_compared_with_a_still_that_just_meets_the_target():
    stream = began(1000)
    assert stream.prefers_reference(900, 1000)
    assert not stream.prefers_reference(900, 1000, gain_db=1.0)


def test_a_scene_that_becomes_more_difficult_does_not_end_a_keyframe():
    stream = began(1000)
    stream.referred(200)
    assert not stream.prefers_reference(700, 1000)
    assert stream.prefers_reference(700, 3000), "a new keyframe would cost three times as much, too"


def test_the_mean_life_of_keyframes_follows_the_camera():
    _, stream = sent([300, 500, 900, 900])
    assert 2.5 < stream.life < 3.5


@pytest.mark.parametrize(("life", "db"), [(1.0, 0.0), (2.0, 0.0), (4.0, 0.5), (8.0, 1.0), (64.0, 2.0)])
def test_keyframes_that_last_aim_higher(life, db):
    assert keyframe_gain_db(life, 0.5, 2.0) == db


def test_a_keyframe_whose_life_is_not_known_aims_higher_than_one_of_a_moving_camera():
    assert (
        keyframe_gain_db(2.0, 0.5, 2.0) < keyframe_gain_db(None, 0.5, 2.0) < keyframe_gain_db(30.0, 0.5, 2.0)
    )
