"""What an edge receives: its subscription within its rights, and nothing beyond."""

import pytest

from fog_node.sessions import readable_devices

FOG, A, B, C = "F" * 40, "a" * 40, "b" * 40, "c" * 40


@pytest.mark.parametrize(
    ("wanted", "allowed", "devices"),
    [
        (["*"], ["*"], None),
        (["*"], [A, B], {A, B}),
        (["*"], [], set()),
        ([A, C], ["*"], {A, C}),
        ([A, B], [B, C], {B}),
        ([A], [B], set()),
        ([A], [], set()),
        ([], ["*"], set()),
        ([], [A], set()),
        (["*", A], [B], {B}),
        ([A], ["*", B], {A}),
    ],
)
def test_a_subscription_ends_where_the_rights_do(wanted, allowed, devices):
    expected = None if devices is None else devices | {FOG}
    assert readable_devices(wanted, allowed, FOG) == expected
