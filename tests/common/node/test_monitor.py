"""The HTTP server of a daemon, without a daemon: who answers when nobody turns the loop."""

import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from common.node import monitor as module
from common.node.health import Finding, report
from common.node.mailbox import Mailbox
from common.node.metric_families import Families
from common.node.monitor import Monitor
from common.node.settings import MonitoringSettings


class Loop:
    """An I/O thread that can be made to hang."""

    def __init__(self):
        self.mailbox = Mailbox()
        self.turning = True
        self.made = 0
        self.findings = []
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def status(self):
        self.made += 1
        return {"role": "fog", "state": "serving", "health": report(self.findings), "made": self.made}

    def end(self):
        self._ended = True
        self._thread.join()
        self.mailbox.close()

    def _run(self):
        while not self._ended:
            if self.turning:
                for call in self.mailbox.drain():
                    call()
            time.sleep(0.002)


def families(status):
    made = Families("node")
    made.gauge("made", "Statuses made.", status["made"])
    return made


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.end()


@pytest.fixture
def monitor(loop):
    settings = MonitoringSettings(port=0)
    monitor = Monitor(settings, loop.mailbox, status=loop.status, families=families)
    yield monitor
    monitor.close()


def ask(monitor, path, method="GET"):
    request = urllib.request.Request(monitor.address + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_200_or_503_with_the_reasons(loop, monitor, monkeypatch):
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    loop.findings = [Finding("quarantine", "3 items were found damaged", failing=False)]
    code, body = ask(monitor, "/health")
    value = json.loads(body)
    assert (code, value["healthy"], value["failing"]) == (200, True, [])
    assert value["notes"] == [{"check": "quarantine", "sentence": "3 items were found damaged"}]
    loop.findings = [Finding("store", "the disk is full"), *loop.findings]
    code, body = ask(monitor, "/health")
    assert code == 503
    assert json.loads(body)["failing"] == [{"check": "store", "sentence": "the disk is full"}]
    assert ask(monitor, "/health", "HEAD") == (503, "")


def test_a_daemon_that_hangs_is_found_out_and_answers_again_later(loop, monitor, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    assert ask(monitor, "/health")[0] == 200
    loop.turning = False
    time.sleep(0.3)
    for _ in range(3):
        code, body = ask(monitor, "/health")
        assert code == 503
        assert json.loads(body)["failing"][0]["check"] == "loop"
    assert ask(monitor, "/metrics")[0] == 503
    before = loop.made
    loop.turning = True
    time.sleep(0.1)
    assert loop.made == before + 1, "questions to a daemon that hangs do not pile up"
    assert ask(monitor, "/health")[0] == 200


def test_many_questions_at_once_cost_one_status(loop, monitor, monkeypatch):
    monkeypatch.setattr(module, "FRESH_S", 60.0)
    for _ in range(5):
        assert "node_made 1.0" in ask(monitor, "/metrics")[1]
    assert loop.made == 1


def test_values_that_are_not_known_have_no_series():
    made = Families("node")
    made.gauge("known", "A value.", 1.5, fog="a")
    made.gauge("known", "A value.", None, fog="b")
    made.gauge("unknown", "No value.", None)
    made.counters("refused", "By code.", {"full": 2, "conflict": 1}, "code", fog="a")
    known, refused = made.collect()
    assert [(s.labels, s.value) for s in known.samples] == [({"fog": "a"}, 1.5)]
    assert [(s.name, s.labels["code"], s.value) for s in refused.samples] == [
        ("node_refused_total", "full", 2),
        ("node_refused_total", "conflict", 1),
    ]


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x.y; escaping=z",
        "text/plain;version=a;escaping",
        f"application/openmetrics-text; version={'9' * 30_000}",
        ";;;===",
    ],
)
def test_a_malformed_wish_for_a_format_gets_the_plain_one(monitor, accept):
    request = urllib.request.Request(monitor.address + "/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert "node_made" in answer.read().decode()
