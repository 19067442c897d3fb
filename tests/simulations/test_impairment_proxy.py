"""The impairment proxy: real sockets through a real process."""

import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import pytest

from common.errors import ConfigError, DeploymentError
from simulations.impairment.bucket import Bucket
from simulations.impairment.proxy import ImpairmentProxy
from simulations.impairment.settings import ImpairmentSettings

DATA = bytes(range(256)) * 4096


class Target:
    """A server that answers with `answer` and keeps what it got of each connection."""

    def __init__(self, answer=b"", read=True):
        self.answer = answer
        self.read = read
        self.got = []
        self.ends = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._peers = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self.got.append(b"")
            threading.Thread(target=self._serve, args=(peer, len(self.got) - 1), daemon=True).start()

    def _serve(self, peer, index):
        try:
            peer.sendall(self.answer)
            while self.read and (data := peer.recv(65536)):
                self.got[index] += data
            self.ends.append("eof")
        except ConnectionResetError:
            self.ends.append("reset")
        except OSError:
            self.ends.append("closed")

    def close(self):
        # Closing alone would not wake the thread that accepts.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            peer.close()


@pytest.fixture
def target():
    with closing(Target()) as target:
        yield target


def proxy(*targets, media=(), seed=0, **impairment):
    links = [
        {"name": f"link{n}", "target_port": target.port, **impairment} for n, target in enumerate(targets)
    ]
    limits = {"links": links, "media": list(media), "seed": seed}
    return ImpairmentProxy(ImpairmentSettings.model_validate(limits))


def connect(proxy, link="link0"):
    return socket.create_connection(("127.0.0.1", proxy.port(link)), timeout=10)


def wait_until(condition, what, timeout=10.0):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited for {what}")
        time.sleep(0.005)


def read_to_the_end(peer):
    while peer.recv(65536):
        pass


def received(target):
    return sum(map(len, target.got))


def test_bytes_pass_unchanged_both_ways_and_are_counted():
    with closing(Target(answer=DATA)) as target, proxy(target) as links:
        with connect(links) as peer:
            sender = threading.Thread(target=peer.sendall, args=(DATA,))
            sender.start()
            got = b""
            while len(got) < len(DATA):
                got += peer.recv(65536)
            sender.join()
            assert got == DATA
            peer.shutdown(socket.SHUT_WR)
            wait_until(lambda: target.ends, "the end")
        assert target.got == [DATA]
        counters = links.counters()["link0"]
        assert (counters.bytes_up, counters.bytes_down) == (len(DATA), len(DATA))
        assert (counters.held_up, counters.held_down, counters.connections) == (0, 0, 1)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_rate_holds_in_its_direction(direction):
    rate, size = 400_000, 200_000
    answer = DATA[:size] if direction == "down" else b""
    slow = {direction: {"bytes_per_s": rate}}
    with closing(Target(answer)) as target, proxy(target, **slow) as links, connect(links) as peer:
        begin = time.monotonic()
        if direction == "up":
            peer.sendall(DATA[:size])
            wait_until(lambda: received(target) == size, "all bytes")
        else:
            left = size
            while left:
                left -= len(peer.recv(65536))
        seconds = time.monotonic() - begin
    # A burst of 16 kB may pass at once.
    assert (size - 16_384) / rate * 0.98 <= seconds <= size / rate * 1.5 + 0.2


def test_a_sender_is_held_back_and_not_buffered_for(target):
    slow = {"bytes_per_s": 50_000}
    with proxy(target, up=slow) as links, connect(links) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        peer.setblocking(False)
        sent, end = 0, time.monotonic() + 0.5
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                sent += peer.send(DATA[:8192])
            time.sleep(0.001)
        assert links.counters()["link0"].held_up <= 4096
    # 25 kB at the rate, a burst of 16 kB, and what the kernel makes of four small buffers.
    assert sent < 300_000


def test_delay_and_jitter_come_late_but_in_order(target):
    with proxy(target, up={"delay_s": 0.15, "jitter_s": 0.1}) as links, connect(links) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.monotonic()
        for n in range(20):
            peer.sendall(bytes([n]) * 10)
            time.sleep(0.002)
        wait_until(lambda: target.got and target.got[0], "the first bytes")
        assert 0.14 <= time.monotonic() - begin < 1.0
        wait_until(lambda: len(target.got[0]) == 200, "all bytes")
        assert target.got[0] == b"".join(bytes([n]) * 10 for n in range(20))


def test_a_stall_keeps_the_connection_and_loses_nothing(target):
    with proxy(target) as links, connect(links) as peer:
        peer.sendall(b"before")
        wait_until(lambda: target.got == [b"before"], "bytes before the stall")
        links.stall("link0")
        peer.sendall(b" after")
        time.sleep(0.2)
        assert target.got == [b"before"]
        assert target.ends == []
        links.resume("link0")
        wait_until(lambda: target.got == [b"before after"], "bytes after it")
        assert links.counters()["link0"].open == 1


def test_a_reset_is_seen_at_both_ends_and_connections_can_be_made_again(target):
    with proxy(target) as links, connect(links) as peer:
        peer.sendall(b"x")
        wait_until(lambda: target.got == [b"x"], "the connection")
        links.reset("link0")
        with pytest.raises(ConnectionResetError):
            read_to_the_end(peer)
        wait_until(lambda: target.ends == ["reset"], "the reset")
        with connect(links) as again:
            again.sendall(b"y")
            wait_until(lambda: target.got == [b"x", b"y"], "the new connection")


def test_a_drop_ends_both_ends_in_order(target):
    with proxy(target) as links, connect(links) as peer:
        peer.sendall(b"x")
        wait_until(lambda: target.got == [b"x"], "the connection")
        links.drop("link0")
        assert peer.recv(100) == b""
        wait_until(lambda: target.ends == ["eof"], "the end")


def test_a_cut_link_takes_no_connection_until_it_is_mended(target):
    with proxy(target) as links:
        links.cut("link0")
        with connect(links) as peer, pytest.raises(ConnectionResetError):
            read_to_the_end(peer)
        links.mend("link0")
        with connect(links) as peer:
            peer.sendall(b"y")
            wait_until(lambda: target.got == [b"y"], "bytes")


def test_one_bit_is_flipped_where_it_was_asked_for(target):
    with proxy(target) as links, connect(links) as peer:
        peer.sendall(bytes(100))
        wait_until(lambda: len(target.got) == 1 and len(target.got[0]) == 100, "bytes")
        assert target.got[0] == bytes(100)
        links.flip("link0", "up", 7)
        peer.sendall(bytes(100))
        wait_until(lambda: len(target.got[0]) == 200, "bytes")
        changed = [n for n, byte in enumerate(target.got[0]) if byte]
        assert changed == [107]
        assert bin(target.got[0][107]).count("1") == 1
        assert links.counters()["link0"].flipped == 1


def damaged_places(seed, target, size):
    with proxy(target, seed=seed, up={"flip_probability": 1e-3}) as links, connect(links) as peer:
        peer.sendall(bytes(size))
        index = len(target.got) - 1
        wait_until(lambda: target.got[index:] and len(target.got[index]) == size, "bytes")
        return [n for n, byte in enumerate(target.got[index]) if byte]


def test_random_flips_follow_the_seed(target):
    size = 20_000
    first = damaged_places(1, target, size)
    target.got.clear()
    again = damaged_places(1, target, size)
    target.got.clear()
    other = damaged_places(2, target, size)
    assert first == again != other
    assert 5 <= len(first) <= 45


def test_links_share_a_medium_evenly():
    rate, size = 400_000, 100_000
    medium = {"name": "radio", "bytes_per_s": rate}
    with ExitStack() as stack:
        targets = [stack.enter_context(closing(Target())) for _ in range(2)]
        links = stack.enter_context(proxy(*targets, media=[medium], medium="radio"))
        begin = time.monotonic()
        peers = [stack.enter_context(connect(links, link)) for link in ("link0", "link1")]
        for peer in peers:
            threading.Thread(target=peer.sendall, args=(DATA[:size],), daemon=True).start()
        wait_until(lambda: any(received(t) == size for t in targets), "one of them")
        assert min(map(received, targets)) > 0.6 * size
        wait_until(lambda: all(received(t) == size for t in targets), "both")
        assert time.monotonic() - begin >= (2 * size - 16_384) / rate * 0.98


def test_a_rate_can_be_changed_while_bytes_pass(target):
    with proxy(target, up={"bytes_per_s": 8000}) as links, connect(links) as peer:
        sender = threading.Thread(target=peer.sendall, args=(DATA[:300_000],))
        sender.start()
        time.sleep(0.2)
        assert received(target) < 60_000
        links.change("link0", "up", bytes_per_s=None)
        # What was taken at the old rate still waits for it: a chunk of 4 kB.
        wait_until(lambda: len(target.got[0]) == 300_000, "the rest")
        sender.join()


def test_a_failed_target_ends_the_connection(target):
    target.close()
    with proxy(target) as links, connect(links) as peer, pytest.raises(ConnectionResetError):
        read_to_the_end(peer)


def test_what_cannot_be_done_is_told_in_a_sentence(target):
    with proxy(target) as links:
        with pytest.raises(DeploymentError, match="no link 'nowhere'"):
            links.stall("nowhere")
        with pytest.raises(DeploymentError, match="delay_s"):
            links.change("link0", "up", delay_s=-1.0)
        with pytest.raises(DeploymentError, match="no medium"):
            links.share("radio", 1000.0)
        with connect(links) as peer:
            peer.sendall(b"still there")
            wait_until(lambda: target.got == [b"still there"], "bytes")
    with pytest.raises(DeploymentError, match="closed"):
        links.counters()


def test_a_port_in_use_is_told_in_a_sentence(target):
    with pytest.raises(DeploymentError, match="choose another port"):
        proxy(target, port=target.port)


@pytest.mark.parametrize(
    "settings",
    [
        {"links": [{"name": "a", "target_port": 1}, {"name": "a", "target_port": 2}]},
        {"links": [{"name": "a", "target_port": 1, "medium": "radio"}]},
        {"links": [{"name": "a", "target_port": 1, "up": {"bytes_per_s": 0}}]},
        {"links": []},
        {
            "links": [
                {
                    "name": "a",
                    "target_port": 1,
                    "up": {"steps": [{"at_s": 2, "bytes_per_s": 1}, {"at_s": 1, "bytes_per_s": 1}]},
                }
            ]
        },
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        ImpairmentSettings.model_validate(settings)


def test_a_bucket_follows_its_rate_burst_and_steps():
    bucket = Bucket(100.0, 50.0, [(10.0, 10.0), (20.0, 1000.0)])
    assert bucket.take(50, 0.0) == 0.0
    assert bucket.take(100, 0.0) == pytest.approx(1.0)
    assert bucket.take(100, 1.0) == pytest.approx(2.0)
    # After a long pause only a burst passes at once: 40 of these 90 bytes wait, 10 a second.
    assert bucket.take(90, 15.0) == pytest.approx(19.0)
    # 10 more bytes until 20 s, the rest a hundred times as quickly.
    assert bucket.take(1010, 15.0) == pytest.approx(21.0)
    assert Bucket(None, 10.0).take(10**9, 3.0) == 3.0


def test_a_bucket_that_is_changed_forgets_its_steps():
    bucket = Bucket(10.0, 1.0, [(1.0, 1e9)])
    bucket.change(2.0, 0.0)
    assert bucket.take(5, 0.0) == pytest.approx(2.0)


def test_a_message_of_the_command_line_is_one_sentence(tmp_path, capsys, monkeypatch):
    from simulations.impairment.__main__ import main

    monkeypatch.setattr("sys.argv", ["impairment", "--config", str(tmp_path / "missing.yaml")])
    assert main() == ConfigError.exit_code
    assert "missing.yaml" in capsys.readouterr().err
