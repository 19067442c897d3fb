import io
import json
import sys

import pytest

from common import __version__
from common.cli import add_json, build_parser, print_json, progress, run_command
from common.errors import ConfigError, DatasetError, UsageError


@pytest.fixture
def run(capsys):
    """Run a command line against a parser whose `do` calls a function; gives (code, stdout, stderr)."""

    def call(action, *argv):
        parser, commands = build_parser("tool", "A tool.")
        sub = commands.add_parser("do", help="do it")
        sub.add_argument("--count", type=int, default=1)
        add_json(sub)
        sub.set_defaults(command=action)
        try:
            code = run_command(parser, list(argv))
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def raising(error):
    def command(arguments):
        raise error

    return command


def test_success(run):
    assert run(lambda arguments: 0, "do") == (0, "", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [(DatasetError("no frames"), 1), (ConfigError("no key"), 2), (UsageError("no such"), 2)],
)
def test_typed_error_is_one_sentence_and_its_exit_code(run, error, code):
    assert run(raising(error), "do") == (code, "", f"tool: {error}\n")


def test_sentence_of_several_lines_becomes_one(run):
    assert run(raising(DatasetError("first\n  second")), "do")[2] == "tool: first second\n"


def test_unexpected_error_shows_no_traceback(run):
    code, out, err = run(raising(ZeroDivisionError("a\nb")), "do")
    assert (code, out) == (1, "")
    assert err == "tool: unexpected ZeroDivisionError: a b; run with --debug for the traceback\n"


def test_what_the_system_refuses_is_told_in_its_words_with_the_path(run):
    assert run(raising(PermissionError(13, "Permission denied", "/x/y")), "do") == (
        1,
        "",
        "tool: /x/y: Permission denied\n",
    )


def test_debug_shows_the_traceback(run):
    code, _, err = run(raising(DatasetError("no frames")), "do", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert err.endswith("tool: no frames\n")


def test_ctrl_c(run):
    assert run(raising(KeyboardInterrupt()), "do") == (130, "", "tool: stopped by Ctrl-C\n")


@pytest.mark.parametrize(
    "argv", [(), ("fly",), ("do", "--cuont", "3"), ("do", "--count", "x"), ("do", "extra")]
)
def test_wrong_usage_is_one_sentence_and_code_2(run, argv):
    code, out, err = run(lambda arguments: 0, *argv)
    assert (code, out) == (2, "")
    assert err.startswith("tool")
    assert err.count("\n") == 1
    assert "--help" in err


@pytest.mark.parametrize("argv", [("--version",), ("do", "--version")])
def test_version(run, argv):
    assert run(lambda arguments: 0, *argv) == (0, f"tool {__version__}\n", "")


@pytest.mark.parametrize("argv", [("--help",), ("do", "--help")])
def test_help(run, argv):
    code, out, _ = run(lambda arguments: 0, *argv)
    assert code == 0
    assert out.startswith("usage: tool")


def test_json_is_exactly_one_object(run):
    def command(arguments):
        print_json({"json": arguments.json, "name": "über"})
        return 0

    code, out, _ = run(command, "do", "--json")
    assert code == 0
    assert out.count("\n") == 1
    assert json.loads(out) == {"json": True, "name": "über"}


def test_json_refuses_what_json_lacks():
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"psnr": float("nan")})


def test_progress_is_silent_off_a_terminal(capsys):
    assert list(progress(range(3), total=3, title="Frames")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_shows_on_a_terminal_unless_quiet(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(range(3), total=3, title="Frames", quiet=True)) == [0, 1, 2]
    assert terminal.getvalue() == ""
    assert list(progress(range(3), total=3, title="Frames")) == [0, 1, 2]
    assert "Frames" in terminal.getvalue()
    assert capsys.readouterr().out == ""
