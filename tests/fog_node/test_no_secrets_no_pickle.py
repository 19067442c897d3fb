"""Secrets stay in their files, and nothing that comes over a network is unpickled."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
import yaml

from common.wire import keys
from tests.node_processes import ROOT, Deployment, write_frames

HOOK = """
import pickle, _pickle, os, traceback
def refuse(*arguments, **options):
    with open(os.environ["UNPICKLED"], "a") as file:
        file.write("".join(traceback.format_stack()))
    raise RuntimeError("something was unpickled")
class Refuse:
    def __init__(self, *arguments, **options):
        refuse()
for module in (pickle, _pickle):
    module.loads = module.load = refuse
    module.Unpickler = Refuse
pickle._Unpickler = Refuse
"""
"""A sitecustomize that makes every process of a test say when it unpickles something."""


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def test_daemons_unpickle_nothing(deployment, tmp_path, photo, monkeypatch):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    found = tmp_path / "unpickled.txt"
    monkeypatch.setenv("UNPICKLED", str(found))

    def hooked(node):
        original = subprocess.Popen

        def popen(command, **options):
            path = options["env"]["PYTHONPATH"]
            options["env"] = {**options["env"], "PYTHONPATH": os.pathsep.join([str(hook), path])}
            return original(command, **options)

        monkeypatch.setattr("tests.node_processes.subprocess.Popen", popen)
        node.start()
        monkeypatch.undo()
        monkeypatch.setenv("UNPICKLED", str(found))

    check = [sys.executable, "-c", "import pickle; pickle.loads(b'N.')"]
    environment = {**os.environ, "PYTHONPATH": str(hook)}
    assert subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 1
    assert found.read_text(), "the hook works"
    found.unlink()
    hooked(deployment.fog)
    status = deployment.fog.wait_for(lambda s: s["port"] > 0, "the port")
    deployment.fog.settings["address"] = f"tcp://127.0.0.1:{status['port']}"
    names = [f"{number:03d}" for number in range(6)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, [*names, "large"])])
    hooked(edge)
    edge.wait_for(lambda s: s["inbox"]["packet"] == 7, "all packets")
    assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    assert not found.exists(), found.read_text()


UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "recv_pyobj", "unsafe_load", "full_load"}


def unsafe(tree):
    """(line, what) of everything in a module that runs what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            owner = ""
            if isinstance(node.func, ast.Attribute):
                name = node.func.attr
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else "?"
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            plain = owner in ("", "yaml")
            if name in UNSAFE_CALLS and (plain or name == "recv_pyobj"):
                yield node.lineno, name
            elif (owner, name) == ("torch", "load") and options.get("weights_only") != "True":
                yield node.lineno, "torch.load without weights_only"
            elif name == "load" and owner == "np" and options.get("allow_pickle", "False") != "False":
                yield node.lineno, "numpy.load of pickles"
            elif (owner, name) == ("yaml", "load"):
                yield node.lineno, "yaml.load"


def test_no_module_of_the_product_can_unpickle_or_run_what_it_reads():
    found = []
    for package in ("common", "fog_node", "edge_node", "simulations"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found += [
                f"{path.relative_to(ROOT)}:{line} {what}"
                for line, what in unsafe(ast.parse(path.read_text()))
            ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "s.recv_pyobj()",
        "torch.load(f)",
        "yaml.load(f)",
    ],
)
def test_the_check_would_see_it(code):
    assert list(unsafe(ast.parse(code)))


def test_no_secret_is_written_or_said(deployment, tmp_path, photo):
    """Logs at their most talkative, status files, stores, and the sentences of every failure."""
    stranger = keys.generate(tmp_path / "stranger")
    deployment.fog.settings["log_level"] = "DEBUG"
    deployment.start_fog()
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001"])], log_level="DEBUG")
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 2, "the packets")
    said = [edge.text(), deployment.fog.text()]

    def command(*arguments):
        run = [sys.executable, "-m", *map(str, arguments)]
        ended = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
        said.extend((ended.stdout, ended.stderr))
        return ended

    for kind in ([], ["--json"]):
        assert command("fog_node.cli", "status", "--config", deployment.fog.config, *kind).returncode == 0
        assert command("edge_node.cli", "status", "--config", edge.config, *kind).returncode == 0
    assert command("fog_node.cli", "keygen", tmp_path / "new").returncode == 0
    assert command("fog_node.cli", "keygen", tmp_path / "new").returncode == 2
    # A secret in the place of something else: the file of the wrong key, a damaged key, readable by others.
    secret = edge.folder / "keys" / "secret.key"
    edge.terminate()
    wrong = {**edge.settings, "fog": {**edge.settings["fog"], "public_key": str(secret) + "x"}}
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump({**wrong, "keys": str(edge.folder / "keys")}))
    assert command("edge_node.cli", "run", "--debug", "--config", bad).returncode == 2
    secret.chmod(0o644)
    assert command("edge_node.cli", "run", "--debug", "--config", edge.config).returncode == 2
    secret.chmod(0o600)
    text = secret.read_text()
    secret.write_text("!" + text)
    assert command("edge_node.cli", "run", "--debug", "--config", edge.config).returncode == 2
    secret.write_text(text)
    assert deployment.fog.terminate() == 0
    said.append(deployment.fog.text())
    new = (tmp_path / "new" / "secret.key").read_text().strip()
    secrets = [stranger.secret, edge.keys.secret, deployment.fog.keys.secret, new]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "secret.key"]
    assert len(written) > 10
    for value in secrets:
        assert not any(value in text for text in said)
        for path in written:
            assert value.encode() not in path.read_bytes(), path


def test_a_pickle_in_the_place_of_anything_is_refused_unread(tmp_path):
    """Also by the fuzzer: here is the shortest program that would run a command."""
    from common.bitstream import decode_packet
    from common.errors import ResidualInrError
    from common.images import decode_image
    from common.wire.framing import decode

    marker = tmp_path / "ran"
    program = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    for read in (decode_packet, decode_image, lambda data: decode([data])):
        with pytest.raises(ResidualInrError):
            read(program)
    assert not marker.exists()
