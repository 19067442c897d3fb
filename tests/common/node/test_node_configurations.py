"""configs/fog.yaml and configs/edge.yaml list every setting with its default and its meaning."""

from pathlib import Path

import pytest

from common.config import Settings, load_settings
from common.node.default_yaml import default_yaml
from edge_node.settings import EdgeSettings, SourceSettings
from fog_node.settings import FogSettings

CONFIGS = Path(__file__).parents[3] / "configs"

NODES = pytest.mark.parametrize(
    ("name", "model"),
    [("fog.yaml", FogSettings), ("edge.yaml", EdgeSettings)],
    ids=["fog", "edge"],
)


@NODES
def test_the_yaml_holds_the_defaults(name, model):
    assert load_settings(CONFIGS / name, model) == model()


@NODES
def test_the_yaml_lists_every_key_with_its_meaning(name, model):
    command = f"python -m common.node.default_yaml {model.__module__}:{model.__name__} > configs/{name}"
    assert (CONFIGS / name).read_text() == default_yaml(model), f"make it again by: {command}"


def fields(model):
    for name, field in model.model_fields.items():
        yield name, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from fields(field.annotation)


@pytest.mark.parametrize("model", [FogSettings, EdgeSettings, SourceSettings])
def test_every_setting_is_described(model):
    assert [name for name, field in fields(model) if not field.description] == []
