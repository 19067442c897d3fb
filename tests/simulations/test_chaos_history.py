"""The check of a chaos run: it accepts what was promised and finds every planted breach."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.frame import FrameIdentity, content_digest
from simulations.chaos.history import Copy, History, Holder, check

CAMERA, OTHER = "c" * 40, "d" * 40

LOG, OTHER_LOG = 5, 6


def identity(number, device=CAMERA, epoch=7):
    return FrameIdentity(device, epoch, number)


def image(number, device=CAMERA):
    return content_digest(f"{device} {number}".encode())


def copy(number, device=CAMERA, epoch=7):
    source = image(number, device)
    return Copy(identity(number, device, epoch), True, source, content_digest(source))


def history(count=10, **changes):
    recorded = {identity(number): image(number) for number in range(count)}
    positions = {identity(number): (LOG, number + 1) for number in range(count)}
    return History(recorded=recorded, acknowledged=set(recorded), positions=positions, **changes)


def fog(count=10):
    return Holder("fog", [copy(number) for number in range(count)])


def edge(numbers, gaps=(), damaged=0, extra=(), labels=None):
    return Holder("edge1", [*map(copy, numbers), *extra], gaps, damaged, labels or {})


def test_all_frames_once_everywhere_is_good():
    verdict = check(history(), [fog()], [edge(range(10)), edge(reversed(range(10)))])
    assert verdict.good
    assert (verdict.frames, verdict.acknowledged) == (10, 10)


def test_a_frame_that_was_not_acknowledged_may_be_missing():
    what = history()
    what.acknowledged.remove(identity(4))
    assert check(what, [fog()], [edge([n for n in range(10) if n != 4])]).good


@given(st.sets(st.integers(0, 9), min_size=1))
def test_every_acknowledged_frame_that_is_missing_is_lost(gone):
    verdict = check(history(), [fog()], [edge(set(range(10)) - gone)])
    assert verdict.lost == len(gone)
    assert not verdict.good
    assert all("was acknowledged and is missing" in sentence for sentence in verdict.sentences)


def test_losses_at_each_subscriber_count():
    assert check(history(), [fog()], [edge(range(9)), edge(range(8))]).lost == 3


@given(st.integers(0, 9))
def test_a_second_row_of_a_frame_is_found(number):
    verdict = check(history(), [fog()], [edge(range(10), extra=[copy(number)])])
    assert verdict.twice == 1
    assert not verdict.good


def test_a_source_frame_that_was_recorded_under_two_numbers_is_found():
    what = history()
    what.recorded[identity(10)] = image(3)
    again = dataclasses.replace(copy(3), identity=identity(10))
    verdict = check(what, [Holder("fog", [*fog().copies, again])], [])
    assert verdict.twice == 1


def test_a_device_that_was_installed_anew_records_its_frames_again():
    what = history()
    for number in range(10):
        what.recorded[identity(number, epoch=8)] = image(number)
        what.acknowledged.add(identity(number, epoch=8))
    copies = [*map(copy, range(10)), *(copy(number, epoch=8) for number in range(10))]
    assert check(what, [Holder("fog", copies)], [Holder("edge1", copies)]).good


@pytest.mark.parametrize("stranger", [copy(10), copy(3, OTHER), copy(3, epoch=9)])
def test_records_of_frames_that_nobody_recorded_are_invented(stranger):
    assert check(history(), [fog()], [edge(range(10), extra=[stranger])]).invented == 1


def test_another_image_under_a_frame_is_wrong():
    other = dataclasses.replace(copy(3), source=image(4))
    verdict = check(history(), [fog()], [Holder("edge1", [copy(n) if n != 3 else other for n in range(10)])])
    assert verdict.wrong == 1


def test_other_bytes_than_the_fogs_are_wrong_unless_the_fog_encoded_anew():
    other = dataclasses.replace(copy(3), digest=bytes(32))
    holder = Holder("edge1", [copy(n) if n != 3 else other for n in range(10)])
    assert check(history(), [fog()], [holder]).wrong == 1
    assert check(history(replaced=True), [fog()], [holder]).good


def test_a_gap_excuses_only_after_damage_and_only_where_it_says():
    gone = [n for n in range(10) if n != 3]
    assert check(history(), [fog()], [edge(gone, gaps=[(LOG, 4, 4)])]).lost == 1
    told = check(history(damaged=True), [fog()], [edge(gone, gaps=[(LOG, 4, 4)])])
    assert told.good
    assert told.told == 1
    # A gap over what the subscriber holds tells of nothing.
    assert check(history(damaged=True), [fog()], [edge(gone, gaps=[(LOG, 5, 5)])]).lost == 1


def test_a_tombstone_excuses_only_after_damage():
    grave = Copy(identity(3), packet=False)
    holder = edge([n for n in range(10) if n != 3], extra=[grave])
    assert check(history(), [fog()], [holder]).lost == 1
    assert check(history(damaged=True), [fog()], [holder]).told == 1


def test_reports_that_name_no_frame_excuse_as_many_as_they_count():
    gone = edge(range(7))
    assert check(history(damaged=True), [fog()], [gone]).lost == 3
    assert check(history(damaged=True, reported=2), [fog()], [gone]).lost == 1
    assert check(history(damaged=True), [fog()], [edge(range(7), damaged=3)]).good
    assert check(history(reported=3), [fog()], [gone]).lost == 3


def test_what_a_restored_backup_lacks_is_excused_and_nothing_else():
    what = history(unprotected={identity(9)}, replaced=True)
    verdict = check(what, [fog()], [edge(range(8))])
    assert (verdict.lost, verdict.excused) == (1, 1)


def test_sentences_are_bounded_while_counts_are_not():
    verdict = check(history(500), [fog(500)], [edge([])])
    assert verdict.lost == 500
    assert len(verdict.sentences) < 50


def test_what_retention_dropped_is_told_by_a_gap_at_that_subscriber_and_by_nothing_else():
    held = [n for n in range(10) if n != 3]
    what = history(dropping=True)
    kept = check(what, [fog()], [edge(held, gaps=[(LOG, 1, 4)])])
    assert kept.good
    assert (kept.dropped, kept.told) == (1, 0)
    assert check(what, [fog()], [edge(held)]).lost == 1
    assert check(what, [fog()], [edge(held, gaps=[(LOG, 5, 9)])]).lost == 1
    assert check(what, [fog()], [edge(held, gaps=[(OTHER_LOG, 1, 9)])]).lost == 1
    # A gap that another subscriber holds tells this one nothing.
    assert check(what, [fog()], [edge(range(10), gaps=[(LOG, 1, 4)]), edge(held)]).lost == 1


def test_gaps_of_retention_are_no_reports_of_damage():
    held = edge([n for n in range(10) if n != 3], gaps=[(LOG, 5, 5), (LOG, 20, 29)])
    assert check(history(dropping=True, damaged=True), [fog()], [held]).lost == 1


def test_frames_that_a_fog_counts_as_lost_with_its_write_ahead_log_are_told_of_and_no_others():
    what = history(damaged=True, forgotten={identity(8), identity(9)}, lost_places={(LOG, 9), (LOG, 10)})
    del what.positions[identity(8)], what.positions[identity(9)]
    gap = [(LOG, 9, 10)]
    assert check(what, [fog(8)], [edge(range(8), gaps=gap)]).told == 2
    assert check(what, [fog(8)], [edge(range(10), gaps=gap)]).good
    # The gap over what went is no excuse for a frame whose place nobody knows.
    del what.positions[identity(3)]
    assert check(what, [fog(8)], [edge([n for n in range(8) if n != 3], gaps=gap)]).lost == 1


def test_an_image_that_an_edge_forgot_may_come_under_a_second_number_and_not_a_third():
    what = history(damaged=True)
    what.again[CAMERA, 7, image(3)] = 1
    for number in (10, 11):
        what.recorded[identity(number)] = image(3)
    second, third = (dataclasses.replace(copy(3), identity=identity(number)) for number in (10, 11))
    assert check(what, [fog()], [edge(range(10), extra=[second])]).good
    assert check(what, [fog()], [edge(range(10), extra=[second, third])]).twice == 1


def test_a_frame_that_two_fogs_have_is_there_twice():
    first, second = Holder("fog", list(map(copy, range(5)))), Holder("fog2", list(map(copy, range(5, 10))))
    assert check(history(), [first, second], [edge(range(10))]).good
    both = Holder("fog2", [*second.copies, copy(2)])
    assert check(history(), [first, both], [edge(range(10))]).twice == 1
    strange = Holder("fog2", [*second.copies, copy(10)])
    assert check(history(), [first, strange], [edge(range(10))]).invented == 1


NEW, OLD = (2, "1,1,9,9"), (1, "0,0,4,4")


@pytest.mark.parametrize("held", [{}, {identity(3): OLD}, {identity(3): (2, "0,0,4,4")}])
def test_a_subscriber_without_the_newest_labels_of_a_frame_is_found(held):
    what = history(labels={identity(3): NEW})
    verdict = check(what, [fog()], [edge(range(10), labels=held), edge(range(10), labels={identity(3): NEW})])
    assert verdict.stale == 1
    assert not verdict.good
    assert "revision 2" in verdict.sentences[0]


def test_labels_that_nobody_lacks_or_that_went_beyond_the_promise_are_not_stale():
    what = history(labels={identity(3): NEW})
    assert check(what, [fog()], [edge(range(10), labels={identity(3): (3, "7,7,8,8")})]).good
    what.acknowledged.remove(identity(3))
    assert check(what, [fog()], [edge([n for n in range(10) if n != 3])]).good
    what.unprotected_labels.add(identity(3))
    assert check(what, [fog()], [edge(range(10))]).excused == 1


def test_missing_labels_are_told_of_by_a_gap_behind_their_frame():
    what = history(labels={identity(3): NEW}, dropping=True)
    assert check(what, [fog()], [edge(range(10), gaps=[(LOG, 11, 12)])]).told == 1
    assert check(what, [fog()], [edge(range(10), gaps=[(LOG, 1, 2)])]).stale == 1
    assert check(what, [fog()], [edge(range(10), gaps=[(OTHER_LOG, 11, 12)])]).stale == 1
    undamaged = history(labels={identity(3): NEW})
    assert check(undamaged, [fog()], [edge(range(10), gaps=[(LOG, 11, 12)])]).stale == 1


def test_reports_of_damage_excuse_as_many_labels_as_they_count():
    labels = {identity(number): NEW for number in range(4)}
    verdict = check(history(labels=labels, damaged=True), [fog()], [edge(range(10), damaged=3)])
    assert (verdict.stale, verdict.told) == (1, 3)
    assert check(history(labels=labels), [fog()], [edge(range(10), damaged=3)]).stale == 4
