"""Wrong paths, files in the way, unreadable files, ports in use: one sentence each, with what to do."""

from __future__ import annotations

import socket

import pytest
import yaml

import edge_node.cli
import fog_node.cli
from common.wire import keys

FOG, EDGE = fog_node.cli.main, edge_node.cli.main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a plain file, keys of a fog and of an edge, and a way to write a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    keys.generate(tmp_path / "keys")
    (tmp_path / "fog.key").write_text(keys.generate(tmp_path / "fog_keys").public)
    return tmp_path


def fog_config(place, **settings):
    base = {"address": "tcp://127.0.0.1:0", "monitoring": {"port": None}, "workers": {"workers": 0}}
    (place / "node.yaml").write_text(yaml.safe_dump({**base, **settings}))


def edge_config(place, **settings):
    (place / "node.yaml").write_text(yaml.safe_dump({"monitoring": {"port": None}, **settings}))


def told(capsys, main, *argv):
    """The sentence that a command ends with."""
    code = main([*argv])
    error = capsys.readouterr().err
    assert code in (1, 2), error
    assert error.count("\n") == 1, error
    for raw in ("Errno", "Traceback", "unexpected", "Error("):
        assert raw not in error
    return error


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keys": "none"}, "none/secret.key is not there; make keys with fog-node keygen"),
        ({"keys": "file"}, "Not a directory; name the folder made by keygen"),
        ({"store": "file"}, "cannot be the folder of a store"),
        ({"store": "file/store"}, "cannot be the folder of a store"),
        ({"allow_list": "empty"}, "cannot read the allow-list"),
        ({"address": "tcp://8.8.8.8:5570"}, "this machine has no such address"),
        ({"address": "tcp://no.such.host.invalid:5570"}, "this machine has no such address"),
    ],
)
def test_a_fog_that_cannot_start_says_why(place, capsys, settings, sentence):
    fog_config(place, **settings)
    assert sentence in told(capsys, FOG, "serve", "--config", "node.yaml")


def test_a_fog_whose_port_is_in_use_says_so(place, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        fog_config(place, address=f"tcp://127.0.0.1:{other.getsockname()[1]}")
        sentence = told(capsys, FOG, "serve", "--config", "node.yaml")
    assert "Address already in use; another program uses the port; stop that one or name another" in sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "fog.key: No such file or directory); copy the fog's public.key to this machine"),
        ({"public_key": "../empty"}, "empty: Is a directory); copy the fog's public.key"),
        ({"public_key": "../file"}, "names {place}/file, but 'text' is no public key"),
    ],
)
def test_an_edge_without_the_fogs_key_says_what_to_copy(place, capsys, settings, sentence):
    (place / "edge").mkdir()
    keys.generate(place / "edge" / "keys")
    edge_config(place / "edge", fog=settings)
    text = told(capsys, EDGE, "run", "--config", "edge/node.yaml")
    assert sentence.format(place=place) in text.replace("edge/../", "")


@pytest.mark.parametrize("main", [FOG, EDGE])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"a: [1", "not valid YAML"),
        (b"- 1", "must hold keys and values"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named(place, capsys, main, content, sentence):
    if content is not None:
        (place / "node.yaml").write_bytes(content)
    text = told(capsys, main, "status", "--config", "node.yaml")
    assert "node.yaml" in text
    assert sentence in text


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (FOG, ["keygen", "file"]),
        (FOG, ["keygen", "file/keys"]),
        (FOG, ["allow", "nobody"]),
        (FOG, ["allow", "fog.key", "--list", "file/allow.yaml"]),
        (FOG, ["allow", "fog.key", "--list", "empty"]),
        (FOG, ["allow", "fog.key", "--downlink-bytes-per-s", "-3"]),
        (FOG, ["allow", "fog.key", "--download-window", "late"]),
        (FOG, ["serve", "--config", "empty"]),
        (FOG, ["serve", "--config", "file/node.yaml"]),
        (FOG, ["status", "--config", "node.yaml"]),
        (FOG, ["backup", "--config", "node.yaml", "file"]),
        (FOG, ["restore", "--config", "node.yaml", "file"]),
        (FOG, ["restore", "--config", "node.yaml", "none"]),
        (FOG, ["salvage", "--config", "node.yaml", "file/x"]),
        (EDGE, ["salvage", "--config", "node.yaml", "file/x"]),
        (EDGE, ["status", "--config", "node.yaml"]),
        (EDGE, ["decode", "none", "--out", "out"]),
        (EDGE, ["decode", "file", "--out", "file"]),
        (EDGE, ["inspect", "empty"]),
        (EDGE, ["export", "none", "--out", "out"]),
        (FOG, ["encode", "none", "--out", "out"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_command_tells_a_wrong_path_in_one_sentence(place, capsys, main, argv):
    (fog_config if main is FOG else edge_config)(place)
    told(capsys, main, *argv)


def test_a_running_stores_folder_is_not_taken_for_a_second_node(place, capsys):
    from common.store import open_fog_store

    fog_config(place)
    with open_fog_store(place / "store"):
        assert "in use by another process" in told(capsys, FOG, "serve", "--config", "node.yaml")
        assert "in use by another process" in told(
            capsys, FOG, "restore", "--config", "node.yaml", backup(place)
        )


def backup(place):
    from common.store.backup import back_up

    back_up(place / "store", place / "backup")
    return "backup"
