"""Every device belongs to one fog, decided by the keys alone."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError
from common.ownership import FogShare, owned, owner
from common.wire.keys import KEY_PATTERN

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
KEYS = st.text(Z85, min_size=40, max_size=40)
WEIGHTS = st.floats(1e-3, 1e3)
FOGS = st.dictionaries(KEYS, WEIGHTS, min_size=1, max_size=8).map(
    lambda found: [FogShare(key, weight) for key, weight in found.items()]
)


def some_keys(count, seed):
    source = random.Random(seed)
    return ["".join(source.choices(Z85, k=40)) for _ in range(count)]


def equal_fogs(count, seed=7):
    return [FogShare(key) for key in some_keys(count, seed)]


DEVICES = some_keys(6000, 1)


def test_the_keys_of_these_tests_are_keys():
    assert all(KEY_PATTERN.fullmatch(key) for key in DEVICES[:10])


@given(KEYS, FOGS, st.randoms())
def test_the_order_of_the_fogs_does_not_matter(device, fogs, source):
    shuffled = list(fogs)
    source.shuffle(shuffled)
    assert owner(device, shuffled) == owner(device, fogs)


@given(KEYS, FOGS, KEYS, WEIGHTS)
def test_a_fog_that_is_added_takes_devices_and_moves_no_other(device, fogs, key, weight):
    before = owner(device, fogs)
    others = [fog for fog in fogs if fog.key != key]
    after = owner(device, [*fogs, FogShare(key, weight)]) if len(others) == len(fogs) else before
    assert after in (before, key)


@given(KEYS, FOGS)
def test_a_fog_that_is_taken_away_moves_its_own_devices_only(device, fogs):
    before = owner(device, fogs)
    for fog in fogs:
        left = [other for other in fogs if other is not fog]
        if left and fog.key != before:
            assert owner(device, left) == before


@given(KEYS, FOGS, st.floats(1.0, 100.0))
def test_more_weight_never_loses_a_device(device, fogs, factor):
    before = owner(device, fogs)
    heavier = [FogShare(fog.key, fog.weight * factor) if fog.key == before else fog for fog in fogs]
    assert owner(device, heavier) == before


@pytest.mark.parametrize("count", [2, 5, 16])
def test_equal_fogs_get_equal_shares(count):
    shares = [len(devices) for devices in owned(DEVICES, equal_fogs(count)).values()]
    assert sum(shares) == len(DEVICES)
    expected = len(DEVICES) / count
    # Five standard deviations of a binomial share.
    assert max(abs(share - expected) for share in shares) < 5 * math.sqrt(expected * (1 - 1 / count))


@pytest.mark.parametrize("count", [1, 4, 15])
def test_adding_one_fog_to_n_moves_about_one_device_in_n_plus_one(count):
    fogs = equal_fogs(count + 1)
    new = fogs[-1].key
    before = {device: key for key, devices in owned(DEVICES, fogs[:-1]).items() for device in devices}
    after = {device: key for key, devices in owned(DEVICES, fogs).items() for device in devices}
    moved = [device for device in DEVICES if before[device] != after[device]]
    assert {after[device] for device in moved} == {new}
    expected = len(DEVICES) / (count + 1)
    assert abs(len(moved) - expected) < 5 * math.sqrt(expected)


def test_shares_follow_the_weights():
    keys = some_keys(3, 3)
    weights = (1.0, 2.0, 5.0)
    found = owned(DEVICES, [FogShare(*pair) for pair in zip(keys, weights, strict=True)])
    for key, weight in zip(keys, weights, strict=True):
        expected = len(DEVICES) * weight / sum(weights)
        assert abs(len(found[key]) - expected) < 5 * math.sqrt(expected)


def test_the_owner_of_a_device_is_the_same_in_every_version():
    fogs = [FogShare(letter * 40) for letter in "abc"] + [FogShare("d" * 40, 2.5)]
    assert [owner(letter * 40, fogs)[0] for letter in "123456789"] == list("cdcdaddcd")


def test_a_fog_without_devices_is_listed_without_any():
    fogs = equal_fogs(40)
    found = owned(DEVICES[:5], fogs)
    assert set(found) == {fog.key for fog in fogs}
    assert sum(map(len, found.values())) == 5


@pytest.mark.parametrize(
    ("fogs", "sentence"),
    [
        ([], "list at least one"),
        ([FogShare("a" * 40), FogShare("a" * 40)], "two fogs have the public key a"),
        ([FogShare("a" * 40, 0.0)], "has the weight 0.0"),
        ([FogShare("a" * 40, math.nan)], "has the weight nan"),
        ([FogShare("a" * 40, math.inf)], "has the weight inf"),
    ],
)
def test_fogs_that_cannot_share_are_refused_in_one_sentence(fogs, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        owner("d" * 40, fogs)
    assert "\n" not in str(caught.value)
