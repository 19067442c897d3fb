"""Nodes as child processes, and the folder that a run may clear."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from common.errors import DeploymentError, UsageError
from simulations.processes import Nodes, run_command, termination_as_interrupt
from simulations.work_folder import MARKER, work_folder

POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(60)
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module that the child processes can import; returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(text: str, name: str = "made_node") -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return write


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_node_gets_sigterm_and_its_exit_code_is_reported(module, tmp_path: Path) -> None:
    name = module(POLITE)
    with Nodes() as nodes:
        node = nodes.start("edge 1", name, [], tmp_path / "logs" / "edge.log")
        wait_for(node.log, "ready")
        nodes.check()
        assert nodes.stop() == {"edge 1": 0}
        assert gone(node.process.pid)


def test_a_node_that_ignores_sigterm_is_killed(module, tmp_path: Path) -> None:
    name = module(STUBBORN)
    with Nodes(stop_s=0.3) as nodes:
        node = nodes.start("fog", name, [], tmp_path / "fog.log")
        wait_for(node.log, "ready")
        assert nodes.stop() == {"fog": -signal.SIGKILL}


def test_leaving_the_block_by_an_error_stops_every_node(module, tmp_path: Path) -> None:
    name = module(POLITE)
    started = []

    def interrupted() -> None:
        with Nodes() as nodes:
            started.extend(nodes.start(f"edge {i}", name, [], tmp_path / f"{i}.log") for i in range(2))
            for node in started:
                wait_for(node.log, "ready")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(gone(node.process.pid) for node in started)


def test_a_node_that_ends_early_is_reported_with_its_last_words(module, tmp_path: Path) -> None:
    name = module("import sys; print('first'); print('edge-node: no such key'); sys.exit(2)")
    with Nodes() as nodes:
        nodes.start("edge 2", name, [], tmp_path / "edge.log").process.wait()
        with pytest.raises(DeploymentError, match=r"edge 2 ended with code 2.*'edge-node: no such key'"):
            nodes.check()


def test_nodes_see_the_variables_given(module, tmp_path: Path) -> None:
    name = module("import os; print(os.environ['OMP_NUM_THREADS'])")
    with Nodes({"OMP_NUM_THREADS": "7"}) as nodes:
        node = nodes.start("fog", name, [], tmp_path / "fog.log")
        node.process.wait()
        assert node.last_words == "7"


def test_a_failing_command_carries_its_own_sentence(module) -> None:
    name = module("import sys; sys.stderr.write('fog-node: bad key\\n'); sys.exit(2)")
    with pytest.raises(DeploymentError, match="fog-node: bad key"):
        run_command(name, ["keygen"])


def test_a_command_gives_its_output(module) -> None:
    assert run_command(module("import sys; print(sys.argv[1])"), ["hello"]) == "hello\n"


def test_sigterm_stops_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminated() -> None:
        with termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        terminated()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_of_an_earlier_run_is_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with work_folder(out) as folder:
        (folder / "nodes").mkdir()
        (folder / "nodes" / "secret.key").write_text("x")
    with work_folder(out) as folder:
        assert [p.name for p in folder.iterdir()] == [MARKER]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="holds files that no loopback run made"), work_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_a_link_in_the_folder_is_removed_but_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    with work_folder(tmp_path / "out") as folder:
        (folder / "link").symlink_to(precious)
    with work_folder(tmp_path / "out"):
        pass
    assert (precious / "file").exists()


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from common.errors import UsageError\n"
        "from simulations.work_folder import work_folder\n"
        "try:\n"
        "    with work_folder(Path(sys.argv[1])): pass\n"
        "except UsageError as error: print(error)\n"
    )
    with work_folder(tmp_path / "out"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True
        )
    assert "another run uses the folder" in done.stdout


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="cannot use the folder"), work_folder(tmp_path / "out"):
        pass
