"""Encoder workers of both kinds for the tests of the fog node."""

from importlib.util import find_spec

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: residual-inr[ray]")


@pytest.fixture(scope="session")
def ray_address():
    """Address of a Ray on this machine that all tests share."""
    from tests.ray_clusters import running_cluster

    with running_cluster(8) as address:
        yield address


@pytest.fixture(params=["processes", pytest.param("ray", marks=needs_ray)])
def worker_settings(request, monkeypatch):
    """Settings of the section ``workers`` for encoder workers of either kind."""
    from tests.ray_clusters import TOKEN

    if request.param == "processes":
        return {}
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return {"ray": {"address": request.getfixturevalue("ray_address")}}
