"""Two nodes with one key, such as after a memory card was copied, are found out and told of."""

import json

import zmq

from common.wire.framing import decode, encode
from common.wire.messages import Hello, Welcome
from common.wire.sockets import edge_socket
from fog_node.rivals import PERIOD_S, RETURNS, Rivals
from tests.node_processes import Deployment
from tests.raw_peer import Peer

KEY = "k" * 40


def fight(rivals, rounds, seconds=1.0):
    """Two connections that take the session from each other in turn."""
    now = 0.0
    for turn in range(rounds):
        loser, winner = (b"a", b"b") if turn % 2 == 0 else (b"b", b"a")
        now += seconds
        rivals.took(KEY, loser, winner, now)
    return now


def test_two_connections_that_take_turns_are_two_nodes():
    rivals = Rivals()
    now = fight(rivals, RETURNS)
    assert rivals.keys(now) == [], "the first of them took the session from nobody who came back"
    now = fight(rivals, RETURNS + 1)
    assert rivals.keys(now) == [KEY]
    assert rivals.keys(now + PERIOD_S) == [], "it is over"


def test_a_node_that_connects_anew_again_and_again_is_one_node():
    rivals = Rivals()
    for number in range(1000):
        rivals.took(KEY, b"%d" % number, b"%d" % (number + 1), number * 0.1)
    assert rivals.keys(100.0) == []


def test_what_comes_back_now_and_then_is_no_second_node():
    rivals = Rivals()
    now = fight(rivals, 40, seconds=PERIOD_S / 3)
    assert rivals.keys(now) == []


def test_a_key_off_the_list_is_forgotten():
    rivals = Rivals()
    now = fight(rivals, 10)
    rivals.forget(KEY)
    assert rivals.keys(now) == []


def test_the_fog_says_which_key_two_nodes_use(tmp_path):
    deployment = Deployment(tmp_path)
    deployment.start_fog()
    first = Peer(deployment)
    address, key = deployment.fog.settings["address"], first.node.keys.public
    second = edge_socket(first.context, address, first.node.keys, deployment.fog.keys.public)
    try:
        assert second.poll(5000, zmq.POLLOUT)
        for _ in range(RETURNS):
            second.send_multipart(encode(Hello(epoch=8, position=0)))
            welcomed = False
            while not welcomed:
                assert second.poll(5000)
                welcomed = isinstance(decode(second.recv_multipart()), Welcome)
            first.send(Hello(epoch=7, position=0))
            first.answer(Welcome)
        sentence = f"two nodes use the key {key} at once"
        deployment.fog.wait_for(lambda s: sentence in json.dumps(s["health"]["notes"]), "the note")
        deployment.fog.wait_for_log(sentence)
    finally:
        second.close(0)
        first.close()
        deployment.end()
