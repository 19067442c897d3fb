import pydantic
import pytest
from pydantic import Field

from common.config import Settings, load_settings, parse_settings
from common.errors import ConfigError


class Link(Settings):
    host: str = "fog"
    port: int = Field(5555, ge=1, le=65535)


class Node(Settings):
    quality: float = Field(30.0, gt=0)
    link: Link = Link()
    backup: Link | None = None
    peers: list[Link] = Field(default_factory=list)
    profiles: dict[str, Link] = Field(default_factory=dict)


class Needy(Settings):
    name: str


class Range(Settings):
    low: int = 0
    high: int = 1

    @pydantic.model_validator(mode="after")
    def ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


def refused(text, model=Node):
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, model, name="fog.yaml")
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_values_are_read_over_the_defaults():
    node = parse_settings("quality: 33\nlink:\n  port: 1\n", Node)
    assert node.quality == 33
    assert node.link == Link(port=1)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_gives_the_defaults(text):
    assert parse_settings(text, Node) == Node()


def test_settings_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        Node().quality = 1  # the change is the point


def test_misspelt_key_is_named_with_its_line_and_a_hint():
    sentence = refused("link:\n  port: 1\n\nqualty: 3\n")
    assert sentence == "unknown key 'qualty' in fog.yaml line 4; did you mean 'quality'?"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("quality: 1\nlink:\n  prot: 3\n", 3),
        ("backup:\n  host: a\n  prot: 3\n", 3),
        ("peers:\n  - port: 1\n  - host: b\n    prot: 3\n", 4),
        ("profiles:\n  fast:\n    prot: 3\n", 3),
        ("link: {host: a, prot: 3}\n", 1),
    ],
)
def test_misspelt_key_of_a_nested_model(text, line):
    assert refused(text) == f"unknown key 'prot' in fog.yaml line {line}; did you mean 'port'?"


def test_key_like_no_other_lists_the_known_ones():
    assert refused("link:\n  zzz: 3\n").endswith("line 2; known keys: host, port")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("quality: 1\nlink:\n  port: 70000\n", "bad value for 'link.port' in fog.yaml line 3: "),
        ("quality: high\n", "bad value for 'quality' in fog.yaml line 1: "),
        ("quality: .nan\n", "bad value for 'quality' in fog.yaml line 1: "),
        ("quality: .inf\n", "bad value for 'quality' in fog.yaml line 1: "),
        ("\nlink: 3\n", "bad value for 'link' in fog.yaml line 2: "),
        ("peers:\n  - port: 1\n  - port: 0\n", "bad value for 'peers.1.port' in fog.yaml line 3: "),
    ],
)
def test_bad_value_is_named_with_its_line(text, start):
    assert refused(text).startswith(start)


def test_a_long_bad_value_is_shortened():
    assert len(refused(f"quality: {'x' * 10_000}\n")) < 300


def test_missing_key_is_named():
    assert refused("", Needy) == "fog.yaml needs the key 'name'; add it"


def test_rule_over_several_keys_is_a_sentence():
    assert refused("low: 3\n", Range) == "fog.yaml: low must not be above high"


def test_key_given_twice_is_refused():
    sentence = refused("link:\n  port: 1\n  host: a\n  port: 2\n")
    assert sentence == "the key 'port' stands in fog.yaml on lines 2 and 4; remove one"


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "\tquality: 1",
        "a: b: c",
        "- 1\n- 2\n",
        "hello",
        "quality: !!python/name:os.system",
        "[" * 5000,
    ],
)
def test_what_is_no_mapping_is_refused(text):
    assert refused(text).startswith("fog.yaml")


def test_broken_yaml_names_its_line():
    assert refused("quality: 1\nlink: [1,\n").startswith("fog.yaml line 3 is not valid YAML: ")


@pytest.mark.parametrize(
    "text", ["1: 2\n", "true: 2\n", "? [a, b]\n: 1\n", "when: 2026-13-45\n", "&a link: *a\n"]
)
def test_odd_yaml_is_a_typed_error(text):
    refused(text)


def test_file_is_named_in_errors(tmp_path):
    path = tmp_path / "edge.yaml"
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*edge\.yaml: No such file"):
        load_settings(path, Node)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="no UTF-8"):
        load_settings(path, Node)
    path.write_text("qualty: 1\n")
    with pytest.raises(ConfigError, match=r"edge\.yaml line 1"):
        load_settings(path, Node)
