"""The doctor reports what this machine can do and how to mend what it cannot."""

import builtins
import json
import socket

import pytest

from common.cli import build_parser, run_command
from common.errors import PacketFormatError
from edge_node import doctor_command


def run(capsys, *arguments):
    parser, subparsers = build_parser("edge-node", "test")
    doctor_command.add_parser(subparsers)
    code = run_command(parser, ["doctor", *arguments])
    return code, capsys.readouterr().out


def test_the_report_is_one_json_object_with_every_check(capsys):
    code, out = run(capsys, "--json")
    report = json.loads(out)
    assert set(report["checks"]) == {
        "python",
        "packages",
        "opencv",
        "profiles",
        "device",
        "nms",
        "memory",
        "disk",
        "threads",
    }
    assert code == (0 if report["ok"] else 1)
    assert report["checks"]["nms"]["ok"]
    assert report["checks"]["packages"]["value"]["torch"]


def test_the_report_for_people_has_a_line_a_check(capsys):
    _, out = run(capsys)
    assert [line.split()[1] for line in out.splitlines()][:3] == ["python", "packages", "opencv"]


def test_profiles_that_this_machine_decodes_are_named(capsys, monkeypatch):
    found = json.loads(run(capsys, "--json")[1])["checks"]["profiles"]
    assert found["ok"]
    assert found["value"] == ["siren", "pyramid", "jpeg", "webp", "avif"]

    def fail(rgb, codec, quality):
        raise PacketFormatError(f"Pillow cannot encode as {codec}")

    monkeypatch.setattr("common.bitstream.image_files.image_file", fail)
    found = json.loads(run(capsys, "--json")[1])["checks"]["profiles"]
    assert not found["ok"]
    assert "lacks avif: Pillow is built without it" in found["detail"]


def test_a_missing_libgl_is_named_with_its_cure(monkeypatch):
    real = builtins.__import__

    def fail(name, *arguments, **keywords):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", fail)
    check = next(c for c in doctor_command.examine() if c.name == "opencv")
    assert not check.ok
    assert "apt-get install libgl1" in check.detail


def test_a_check_that_breaks_is_a_finding_and_not_a_crash(monkeypatch, capsys):
    monkeypatch.setattr(doctor_command, "_nms", lambda: 1 / 0)
    code, out = run(capsys, "--json")
    assert code == 1
    assert "ZeroDivisionError" in json.loads(out)["checks"]["nms"]["detail"]


@pytest.mark.parametrize("listening", [True, False])
def test_the_fog_of_a_configuration_is_reached_or_not(tmp_path, capsys, listening):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not listening:
            server.close()
        config = tmp_path / "edge.yaml"
        config.write_text(f"fog:\n  address: tcp://127.0.0.1:{port}\n")
        code, out = run(capsys, "--json", "--config", str(config))
    fog = json.loads(out)["checks"]["fog"]
    assert fog["ok"] is listening
    assert fog["value"] == f"tcp://127.0.0.1:{port}"
    if not listening:
        assert code == 1
        assert "firewalls" in fog["detail"]


def test_all_fogs_of_a_configuration_are_reached_or_named(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        ports = [each.getsockname()[1] for each in (server, gone)]
        gone.close()
        config = tmp_path / "edge.yaml"
        entries = "".join(f"  - {{address: 'tcp://127.0.0.1:{port}', public_key: k}}\n" for port in ports)
        config.write_text(f"fogs:\n{entries}")
        code, out = run(capsys, "--json", "--config", str(config))
    fog = json.loads(out)["checks"]["fog"]
    assert code == 1
    assert fog["value"] == {f"tcp://127.0.0.1:{ports[0]}": True, f"tcp://127.0.0.1:{ports[1]}": False}
    assert f"cannot connect to tcp://127.0.0.1:{ports[1]}" in fog["detail"]
    assert str(ports[0]) not in fog["detail"]


def test_a_bad_configuration_is_one_sentence(tmp_path, capsys):
    config = tmp_path / "edge.yaml"
    config.write_text("fgo: {}\n")
    code, out = run(capsys, "--json", "--config", str(config))
    assert (code, out) == (2, "")
