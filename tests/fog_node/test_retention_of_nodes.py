"""Full logs and inboxes of real nodes: the sender sees it and keeps its frames, the receiver is told."""

import pytest

from tests.node_processes import Deployment, write_frames


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def retention(**limits):
    return {"retention": {"check_s": 0.05, **limits}}


def test_a_full_log_holds_frames_at_the_sender_until_the_oldest_may_go(deployment, tmp_path, photo):
    deployment.start_fog(storage=retention(max_records=5), limits={"commit_frames": 1})
    names = [f"slow{n:03d}" for n in range(12)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 5, "what the log has room for")
    status = edge.wait_for(lambda s: "the log is full" in s["outbox"]["last_refusal"], "the reason")
    assert (status["outbox"]["waiting"], status["outbox"]["refused"]) == (7, 0)
    assert "the log is full" in deployment.fog.wait_for(lambda s: s["store_full"], "it")["retention"]["full"]
    assert deployment.fog.terminate() == 0
    deployment.fog.start(storage=retention(max_records=5, when_full="drop_oldest"))
    # What went before this edge came to it is told to it as a gap.
    status = edge.wait_for(lambda s: s["log_position"] == 12, "the end of the log", 60)
    assert status["outbox"]["waiting"] == 0
    assert status["inbox"]["packet"] >= 9
    deployment.fog.wait_for(lambda s: s["retention"]["dropped_records"] == 7, "seven records gone")
    late = deployment.edge("two").start()
    status = late.wait_for(lambda s: s["inbox"]["packet"] == 5, "what the log still holds")
    assert status["inbox"]["gap"] == 1
    late.wait_for_log("'count': 7")


def test_an_edge_with_a_small_disk_keeps_the_newest_packets(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"{n:03d}" for n in range(20)]
    source = write_frames(tmp_path / "a", photo, names)
    edge = deployment.edge("one", [source], storage=retention(max_records=4, when_full="drop_oldest")).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 20, "all packets, one after the other")
    status = edge.wait_for(lambda s: s["retention"]["records"] == 4, "the newest four")
    assert status["retention"]["dropped_records"] == 16
    edge.kill()
    edge.start()
    status = edge.wait_for(lambda s: s["connection"] == "open", "a session")
    assert (status["inbox"]["packet"], status["retention"]["records"]) == (20, 4)
