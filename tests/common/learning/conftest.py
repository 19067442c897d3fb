"""A trainer process and a store that it trains on."""

import signal

import pytest

from common.store import open_fog_store
from tests.trainer_processes import Trainer, put


@pytest.fixture
def trainer():
    """Makes trainer processes, which are gone afterwards."""
    trainers = []

    def make():
        trainers.append(Trainer())
        return trainers[-1]

    yield make
    for one in trainers:
        one.child.terminate(signal.SIGKILL)
        assert one.child.wait(10)


@pytest.fixture
def filled_store(tmp_path):
    """A fog's store with eight frames to train on and eight for validation."""
    with open_fog_store(tmp_path / "store") as opened:
        put(opened, range(8))
        put(opened, range(100, 108), validation=True)
        yield opened
