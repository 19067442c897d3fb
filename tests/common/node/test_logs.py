"""Lines of a daemon's log: their fields in JSON, and how many of one kind there may be."""

import json
import logging

import pytest

from common.node.logs import JsonFormatter, RateFilter, about, set_up_logging
from common.node.settings import LogSettings


def record(message, *args, line=1, level=logging.INFO, **extra):
    made = logging.LogRecord("fog_node.node", level, "node.py", line, message, args, None)
    made.__dict__.update(extra)
    return made


def test_a_line_of_json_has_what_it_is_about_in_fields_of_their_own():
    line = JsonFormatter("fog-node").format(
        record("frame %d of %s was not encoded", 7, "KEY", **about(device="KEY", frame=7, job="encoder 0"))
    )
    value = json.loads(line)
    assert value.pop("time").endswith("+00:00")
    assert value == {
        "level": "INFO",
        "node": "fog-node",
        "logger": "fog_node.node",
        "message": "frame 7 of KEY was not encoded",
        "device": "KEY",
        "frame": 7,
        "job": "encoder 0",
    }
    assert "device" not in json.loads(JsonFormatter("fog-node").format(record("stopping")))


def test_a_message_of_several_lines_stays_one_line_and_a_traceback_has_its_field():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        made = record("it\nfailed")
        made.exc_info = (ValueError, error, error.__traceback__)
    line = JsonFormatter("edge-node").format(made)
    assert "\n" not in line
    assert "two\nlines" in json.loads(line)["traceback"]


def test_lines_from_one_place_are_bounded_and_the_next_one_tells_how_many_went():
    now = 0.0
    bound = RateFilter(3, clock=lambda: now)
    written = [bound.filter(record("frame %d", n)) for n in range(10)]
    assert written == [True] * 3 + [False] * 7
    assert bound.filter(record("another place", line=2)), "other lines are not held back"
    now = 61.0
    late = record("frame %d", 11)
    assert bound.filter(late)
    assert late.getMessage() == "frame 11 (7 more like this were not written)"


@pytest.fixture
def root():
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    levels = {name: logging.getLogger(name).level for name in ("common", "fog_node", "edge_node")}
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


def test_settings_choose_level_format_and_bound(root, capsys):
    set_up_logging(LogSettings(log_level="WARNING", log_format="json", log_lines_per_minute=2), "edge-node")
    log = logging.getLogger("edge_node.uploading")
    for n in range(5):
        log.info("not written")
        log.warning("frame %d was refused", n, extra=about(frame=n))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["frame"] for line in lines] == [0, 1]
    set_up_logging(LogSettings(log_lines_per_minute=None), "edge-node")
    for n in range(50):
        log.info("line %d", n)
    text = capsys.readouterr().err.splitlines()
    assert len(text) == 50
    assert text[0].endswith("edge-node INFO line 0")


def test_a_name_cannot_forge_a_line_nor_talk_to_the_terminal(root, capsys):
    set_up_logging(LogSettings(), "edge-node")
    name = "a.jpg\n2026-11-20 18:14:41,912 edge-node ERROR all is lost \x1b]0;title\x07 \u2028 \udcff"
    logging.getLogger("edge_node.recorder").warning("frame %s was left out", name)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "a.jpg\\n2026" in text
    assert not {"\x1b", "\x07", "\u2028"} & set(text)


def test_a_traceback_keeps_its_lines(root, capsys):
    set_up_logging(LogSettings(), "edge-node")
    try:
        raise ValueError("of a test")
    except ValueError:
        logging.getLogger("edge_node.recorder").exception("it failed")
    assert len(capsys.readouterr().err.splitlines()) >= 4
