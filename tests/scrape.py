"""Asks the monitoring address of a daemon, and parses what it says."""

import json
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def get(node, path, accept=None):
    """(HTTP status, body) of a request to a running daemon."""
    address = node.status()["monitoring"]["address"]
    headers = {} if accept is None else {"Accept": accept}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address + path, headers=headers), timeout=10
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def health(node):
    """(HTTP status, value) of /health."""
    code, body = get(node, "/health")
    return code, json.loads(body)


class Samples:
    """What a scrape of /metrics holds."""

    def __init__(self, text):
        self.types = {}
        self.values = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.values, f"{key} stands there twice"
                self.values[key] = sample.value

    def get(self, name, /, **labels):
        """The value of a series, of any further labels; their sum when there are several; None without."""
        wanted = set(labels.items())
        found = [value for (known, own), value in self.values.items() if known == name and wanted <= own]
        return sum(found) if found else None


def scrape(node):
    """The samples of a daemon that answers."""
    code, text = get(node, "/metrics")
    assert code == 200, text
    return Samples(text)
