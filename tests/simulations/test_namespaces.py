"""Network namespaces: real TCP over cables with a rate."""

import os
import subprocess
import sys
import time

import pytest

from common.errors import DeploymentError
from simulations.namespaces import CableSettings, Namespaces, why_not

OWN = f"rinr-{os.getpid()}-"
LISTEN = (
    "import socket; s = socket.create_server(('0.0.0.0', 5000)); print('ready', flush=True)\n"
    "p, _ = s.accept()\n"
    "n = 0\n"
    "while d := p.recv(65536): n += len(d)\n"
    "p.sendall(b'thanks'); print(n)"
)
SEND = (
    "import socket, sys, time; t = time.monotonic(); s = socket.create_connection((sys.argv[1], 5000))\n"
    "s.sendall(bytes(int(sys.argv[2]))); s.shutdown(1); s.recv(10); print(time.monotonic() - t)"
)


def existing():
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", autouse=True)
def _allowed():
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def test_a_cable_has_its_rate_and_counts_what_crosses_it():
    size, rate = 300_000, 200_000
    cables = [CableSettings("barn", rate, rate), CableSettings("gate", rate, rate)]
    with Namespaces(cables) as spaces:
        fog = subprocess.Popen(
            [*spaces.command("fog"), sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True
        )
        with fog:
            assert fog.stdout.readline() == "ready\n"
            sender = [*spaces.command("barn"), sys.executable, "-c", SEND]
            done = subprocess.run(
                [*sender, spaces.fog_address("barn"), str(size)], capture_output=True, text=True, check=True
            )
            assert fog.stdout.readline() == f"{size}\n"
        counters = spaces.counters()
    # 1514 bytes of a full packet carry 1448; a burst of 16 kB passes at once.
    assert (size - 20_000) * 1514 / 1448 / rate <= float(done.stdout) <= size * 1514 / 1448 / rate * 1.3 + 0.3
    assert counters["barn"].content_up == pytest.approx(size, abs=1000)
    assert counters["barn"].content_down < 5000
    assert counters["barn"].bytes_up > size * 1.01
    assert counters["gate"].content_up < 1000


def interrupted():
    with Namespaces([CableSettings("barn", 1e6, 1e6)]) as spaces:
        assert spaces.command("barn")[-1] in existing()
        raise KeyboardInterrupt


def test_namespaces_are_gone_afterwards_also_after_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert OWN not in existing()


def test_what_a_killed_process_left_is_removed_by_the_next():
    code = (
        "import os, signal\n"
        "from simulations.namespaces import CableSettings, Namespaces\n"
        "Namespaces([CableSettings('barn', 1e6, 1e6)]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code])
    killed.wait()
    assert f"rinr-{killed.pid}-barn" in existing()
    time.sleep(0.05)
    with Namespaces([CableSettings("barn", 1e6, 1e6)]):
        assert f"rinr-{killed.pid}-barn" not in existing()


def test_a_cable_that_cannot_be_made_leaves_nothing_behind():
    with pytest.raises(DeploymentError, match="tc"):
        Namespaces([CableSettings("barn", 0.0, 0.0)])
    assert OWN not in existing()
