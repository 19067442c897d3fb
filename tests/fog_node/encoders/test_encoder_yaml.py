"""configs/encoder.yaml: every key, each with its default."""

from pathlib import Path

import pytest
import yaml

from common.config import load_settings, parse_settings
from common.errors import ConfigError
from fog_node.encoders.encoder_settings import EncoderSettings

PATH = Path(__file__).parents[3] / "configs" / "encoder.yaml"


def test_the_file_lists_every_key_with_its_default():
    assert load_settings(PATH, EncoderSettings) == EncoderSettings()
    assert yaml.safe_load(PATH.read_text()) == EncoderSettings().model_dump(mode="json")


def test_every_key_has_a_comment():
    for line in PATH.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            assert "#" in line, line


@pytest.mark.parametrize(
    "text",
    [
        "background: {sizes: [{width: 20, depth: 5}, {width: 10, depth: 5}]}",
        "background_psnr: .nan",
        "time_budget_s: 0",
        "profile: jpeg2000",
        "max_packet_bytes: 4000",
    ],
)
def test_impossible_settings_are_refused(text):
    with pytest.raises(ConfigError):
        parse_settings(text, EncoderSettings)
