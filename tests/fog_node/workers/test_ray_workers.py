"""The fog with encoder workers on Ray: wrong settings, and processes that are killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from common import __version__
from common.config import parse_settings
from common.errors import ConfigError
from common.store import open_fog_store
from fog_node.settings import FogSettings
from fog_node.workers.encoder_messages import StartEncoder, to_map
from fog_node.workers.ray_actor import EncoderActor
from fog_node.workers.ray_cluster import reason_of, sentence_of
from fog_node.workers.ray_settings import RaySettings
from tests.node_processes import ROOT, Deployment, write_frames

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: residual-inr[ray]")


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path / "nodes")
    yield deployment
    deployment.end()


def processes_with(mark):
    """Process ids whose environment holds ``mark``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until_gone(mark, seconds):
    end = time.monotonic() + seconds
    while (left := processes_with(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


@pytest.fixture
def mark(monkeypatch, tmp_path):
    """In the environment of every process that the test starts, and of what these start."""
    value = f"RESIDUAL_INR_TEST={tmp_path}"
    monkeypatch.setenv(*value.split("="))
    return value


@needs_ray
def test_a_killed_worker_loses_no_frame(deployment, tmp_path, photo, mark):
    deployment.start_fog(workers={"workers": 2, "ray": {}})
    names = [f"{number:03d}slow" for number in range(40)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    status = deployment.fog.wait_for(
        lambda s: s["encoded"]["packets"] >= 3 and s["workers"][0]["pid"], "first packets", 60
    )
    os.kill(status["workers"][0]["pid"], signal.SIGKILL)
    edge.wait_for(lambda s: s["inbox"]["packet"] == 40, "all packets", 60)
    status = deployment.fog.wait_for(lambda s: s["workers"][0]["pid"], "the worker again")
    assert status["workers"][0]["crashes"] == 1
    assert deployment.fog.terminate() == 0
    assert edge.terminate() == 0
    assert wait_until_gone(mark, 2) == [], "nothing outlives the fog"
    with open_fog_store(deployment.fog.store) as store:
        records = store.read(0, 100, 1 << 24).records
    assert [record.number for record in records] == list(range(40)), "once each, in order"


@needs_ray
def test_a_killed_fog_leaves_no_process_of_ray_behind(deployment, mark):
    deployment.start_fog(workers={"ray": {}})
    deployment.fog.wait_for(lambda s: s["workers"][0]["pid"], "a worker", 60)
    assert len(processes_with(mark)) > 4
    deployment.fog.kill()
    assert wait_until_gone(mark, 10) == []


@needs_ray
def test_a_killed_driver_is_no_frames_fault_and_leaves_nothing_behind(deployment, tmp_path, photo, mark):
    deployment.start_fog(workers={"attempts": 1, "ray": {}})
    fog = deployment.fog
    status = fog.wait_for(lambda s: s["workers"][0]["pid"], "a worker", 60)
    before = set(processes_with(mark))
    names = [f"{number:03d}slow" for number in range(40)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    fog.wait_for(lambda s: s["encoded"]["packets"] >= 1, "first packets")
    os.kill(os.getsid(status["workers"][0]["pid"]), signal.SIGKILL)
    edge.wait_for(lambda s: s["inbox"]["packet"] == 40, "all packets", 60)
    assert "the Ray driver has ended by signal SIGKILL" in fog.text()
    assert before & set(processes_with(mark)) == {fog.process.pid}
    assert fog.terminate() == 0
    assert edge.terminate() == 0
    assert wait_until_gone(mark, 2) == []


@needs_ray
def test_a_cluster_that_does_not_answer_is_one_sentence_and_frames_wait(deployment, tmp_path, photo):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    deployment.start_fog(workers={"ray": {"address": f"127.0.0.1:{port}", "start_s": 1}})
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001"])]).start()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 2, "the frames at the fog")
    status = deployment.fog.wait_for(
        lambda s: s["workers"][0]["problem"] and s["frames_pending"] == 2, "the problem", 60
    )
    problem = status["workers"][0]["problem"]
    assert problem.startswith(f"the Ray cluster at 127.0.0.1:{port} is not reached (")
    assert "start its head node, or mend workers.ray.address" in problem
    assert "Traceback" not in deployment.fog.text()


def test_a_fog_without_ray_says_what_to_install(deployment, tmp_path):
    node = deployment.fog
    node.config.write_text(yaml.safe_dump({**node.settings, "workers": {"ray": {}}}))
    code = (
        "import sys, importlib.metadata as m; known = m.version\n"
        "def version(name):\n"
        "    if name == 'ray': raise m.PackageNotFoundError(name)\n"
        "    return known(name)\n"
        "m.version = version\n"
        "from fog_node.cli import main\n"
        f"sys.exit(main(['serve', '--config', {str(node.config)!r}]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2
    assert "install residual-inr[ray]" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "address", ["local", "auto", "10.0.0.7:6379", "head.example:6379", "ray://head:10001"]
)
def test_addresses(address):
    assert RaySettings(address=address).address == address


def test_a_reason_is_the_workers_own_error():
    class WrappedError(Exception):
        cause = ValueError("the\nmemory of the accelerator")

    assert reason_of(WrappedError("a traceback")) == "ValueError: the memory of the accelerator"
    assert reason_of(MemoryError()) == "MemoryError: no message"


def test_the_page_on_ray_lists_every_setting_with_its_default_and_meaning():
    page = (ROOT / "docs" / "ray.md").read_text()
    block = page.partition("```yaml\n")[2].partition("```")[0]
    assert RaySettings.model_validate(yaml.safe_load(block)["workers"]["ray"]) == RaySettings()
    words = " ".join(block.replace("#", " ").split())
    for name, field in RaySettings.model_fields.items():
        assert f"{name}: " in block
        assert field.description in words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "cuda", "ray": {}}, "set ray.gpus"),
        ({"ray": {"address": "tcp://host:1"}}, "workers.ray.address"),
        ({"ray": {"cpus": -1}}, "workers.ray.cpus"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(settings, words):
    with pytest.raises(ConfigError) as error:
        parse_settings(yaml.safe_dump({"workers": settings}), FogSettings, name="fog.yaml")
    assert words in str(error.value)


@needs_ray
def test_a_worker_without_room_waits_and_the_log_says_what_it_needs(deployment, ray_address, monkeypatch):
    from tests.ray_clusters import TOKEN

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    deployment.start_fog(workers={"ray": {"address": ray_address, "cpus": 99, "start_s": 1}})
    deployment.fog.wait_for_log(
        "encoder 0 has no place in the Ray cluster yet: each needs 99 CPU, free are", 60
    )
    assert deployment.fog.status()["workers"][0]["state"] == "starting"
    assert deployment.fog.terminate() == 0


def test_a_node_with_another_version_says_so():
    with pytest.raises(ConfigError, match="install the fog's version on every node"):
        EncoderActor().start("stub_encoder", f"{__version__}.1", to_map(StartEncoder({})))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError(
                "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.7\n"
                "This process on node 10.0.0.2 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
            ),
            "runs other versions: The cluster was started with: Ray: 2.50.0",
        ),
        (ConnectionError("Could not find any running Ray instance. Please"), "start it with ray start"),
        (ModuleNotFoundError("No module named 'grpc'"), "install residual-inr[ray] anew"),
        (ValueError("what\nelse"), "cannot be used: ValueError: what else"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_sentence(error, words):
    sentence = sentence_of("10.0.0.1:6379", error)
    assert words in sentence
    assert "\n" not in sentence
