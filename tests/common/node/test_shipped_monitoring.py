"""The dashboard, the alerts and the scrape configuration in configs/ can be read, and fit the defaults."""

import json
from pathlib import Path

import yaml

from edge_node.settings import EdgeSettings
from fog_node.settings import FogSettings

CONFIGS = Path(__file__).parents[3] / "configs"


def test_the_scrape_configuration_asks_where_nodes_answer_by_default():
    value = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())
    targets = [target for job in value["scrape_configs"] for target in job["static_configs"][0]["targets"]]
    nodes = (FogSettings().monitoring, EdgeSettings().monitoring)
    assert targets == [f"{node.host}:{node.port}" for node in nodes]
    assert value["rule_files"] == ["alerts.yml"]


def test_alerts_and_dashboard_are_complete():
    rules = yaml.safe_load((CONFIGS / "alerts.yml").read_text())["groups"][0]["rules"]
    assert all(rule["alert"] and rule["expr"] and rule["annotations"]["summary"] for rule in rules)
    dashboard = json.loads((CONFIGS / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels), "no panel hides another"
    assert all(target["expr"] for panel in panels for target in panel["targets"])
