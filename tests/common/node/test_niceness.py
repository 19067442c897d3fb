"""A child that makes way does so for other sessions too: its daemon is in one of them.

The kernel's file is there but empty in a session that shares no processors, such as that of a boot script.
"""

import subprocess
import sys

import pytest

from common.node.niceness import AUTOGROUP

CODE = (
    "import os; from common.node.niceness import AUTOGROUP, make_way; make_way({nice}); "
    "print(os.nice(0), (AUTOGROUP.read_text().split() or ['none'])[-1])"
)


def niceness(nice, session):
    run = subprocess.run(
        [sys.executable, "-c", CODE.format(nice=nice)],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=session,
    )
    return run.stdout.split()


def usual():
    return niceness(0, True)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share processors between sessions")
def test_a_process_with_a_session_of_its_own_makes_way_with_the_session():
    own, session = usual()
    assert niceness(7, True) == [str(min(19, int(own) + 7)), "7"]
    assert session == "0", "and one that is asked for nothing does not"


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share processors between sessions")
def test_the_session_of_others_is_left_alone():
    assert niceness(7, False)[1] == (AUTOGROUP.read_text().split() or ["none"])[-1]


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share processors between sessions")
def test_a_session_made_by_another_program_is_given_the_niceness_that_its_leader_inherited():
    code = (
        "import os; from common.node.niceness import AUTOGROUP, session_makes_way; session_makes_way(7); "
        "print(os.nice(0), (AUTOGROUP.read_text().split() or ['none'])[-1])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert run.stdout.split() == [usual()[0], "7"]
