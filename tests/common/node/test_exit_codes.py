"""Every exit code has a sentence, in the help of the commands and in the documents."""

from pathlib import Path

import pytest

from common.errors import ConfigError, ResidualInrError, UsageError
from common.node.exit_codes import ExitCode, exit_code_help

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.mark.parametrize("code", ExitCode)
def test_the_sentence_of_a_code_is_told_in_help_and_document(code):
    assert code.sentence in exit_code_help()
    assert f"| {code.value} | {code.sentence} |" in OPERATIONS.read_text()


def test_errors_end_with_codes_of_the_list():
    assert ResidualInrError.exit_code == ExitCode.FAILURE
    assert UsageError.exit_code == ConfigError.exit_code == ExitCode.WRONG_USAGE
