"""Exit codes of every command and process of this system, each with its sentence."""

from __future__ import annotations

import enum

from common.node.pipe import PARENT_LOST_EXIT_CODE

__all__ = ["ExitCode", "exit_code_help"]


class ExitCode(enum.IntEnum):
    """How a process ended."""

    SUCCESS = 0
    FAILURE = 1
    WRONG_USAGE = 2
    PARENT_LOST = PARENT_LOST_EXIT_CODE
    INTERRUPTED = 130
    KILLED = 137

    @property
    def sentence(self) -> str:
        """What it means and what to do."""
        return _SENTENCES[self]


_SENTENCES = {
    ExitCode.SUCCESS: "The command did what it was asked; a daemon was told to stop and has drained.",
    ExitCode.FAILURE: "Something failed that was not a wrong command; the sentence on stderr says what.",
    ExitCode.WRONG_USAGE: "The command line, the configuration, a key or the allow list is wrong; "
    "mend it as the sentence on stderr says and start again.",
    ExitCode.PARENT_LOST: "An encoder or trainer process ended because its daemon has gone; nothing to do.",
    ExitCode.INTERRUPTED: "A command other than a daemon was stopped by Ctrl-C.",
    ExitCode.KILLED: "The process was killed with SIGKILL, often for lack of memory; start it again: "
    "nothing acknowledged is lost.",
}


def exit_code_help() -> str:
    """The list as text for ``--help``."""
    return "exit codes:\n" + "\n".join(f"  {code.value:>3}  {code.sentence}" for code in ExitCode)
