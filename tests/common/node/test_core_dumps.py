"""A node's secret key does not get to the disk with the memory of a process that crashed."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.node.core_dumps import refuse_core_dumps
from tests.node_processes import Deployment


@pytest.fixture
def with_cores():
    """As many bytes of core as the system lets this process and its children write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("this process may write no core file anyway")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def soft_limit(pid):
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4]


def test_a_crash_writes_no_core(with_cores, tmp_path):
    program = "from common.node.core_dumps import *; import os; refuse_core_dumps(); os.abort()"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path)
    assert ended.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
    refuse_core_dumps()
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_both_daemons_do_so(with_cores, tmp_path):
    deployment = Deployment(tmp_path)
    try:
        deployment.start_fog()
        edge = deployment.edge("edge").start()
        edge.wait_for(lambda status: True, "its status")
        assert soft_limit(deployment.fog.process.pid) == "0"
        assert soft_limit(edge.process.pid) == "0"
    finally:
        deployment.end()
