"""The training settings: documented defaults, bounds and classes."""

from pathlib import Path

import pytest
import yaml

from common.config import load_settings, parse_settings
from common.errors import ConfigError
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.settings import GateSettings, TrainingSettings

YAML = Path(__file__).parents[3] / "configs" / "training.yaml"


def test_the_yaml_lists_every_key_with_its_default():
    assert load_settings(YAML, TrainingSettings) == TrainingSettings()
    data = yaml.safe_load(YAML.read_text())
    assert set(data) == set(TrainingSettings.model_fields)
    assert set(data["gate"]) == set(GateSettings.model_fields)
    assert set(data["augmentation"]) == set(AugmentationSettings.model_fields)


def test_every_key_of_the_yaml_has_a_comment():
    for line in YAML.read_text().splitlines():
        assert not line or "#" in line or line in ("gate:", "augmentation:"), line


def test_every_setting_is_described():
    for model in (TrainingSettings, AugmentationSettings, GateSettings):
        assert all(field.description for field in model.model_fields.values())


def test_the_former_key_of_mirroring_is_refused_with_the_new_one():
    with pytest.raises(ConfigError, match="'flip' is now 'fliplr' in the section 'augmentation'"):
        parse_settings("flip: 0.5", TrainingSettings)


def test_a_training_size_that_is_no_multiple_of_the_stride_is_refused():
    with pytest.raises(ConfigError, match="multiple of 32"):
        parse_settings("imgsz: 100", TrainingSettings)


def test_a_class_listed_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        parse_settings("classes: [car, car]", TrainingSettings)


def test_a_map_to_an_unknown_class_is_refused():
    with pytest.raises(ConfigError, match="'lorry'"):
        parse_settings("classes: [car]\nclass_map: {truck: lorry}", TrainingSettings)


def test_label_names_are_mapped_and_never_renumbered():
    settings = TrainingSettings(classes=("car", "bus"), class_map={"coach": "bus"})
    assert [settings.class_index(n) for n in ("car", "bus", "coach", "tram")] == [0, 1, 1, None]
