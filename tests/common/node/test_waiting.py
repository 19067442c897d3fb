"""How long what waits has waited."""

from common.node import waiting
from common.node.waiting import QueueAge, Waiting


class TestWaiting:
    def test_the_oldest_counts_in_whatever_order_they_leave(self):
        queue = Waiting(0, 0.0)
        assert queue.oldest_s(1.0, 0) is None
        for key, now in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
            queue.add(key, now)
        assert queue.oldest_s(10.0, 3) == 9.0
        queue.remove("b")
        assert queue.oldest_s(10.0, 2) == 9.0
        queue.remove("a")
        assert queue.oldest_s(10.0, 1) == 7.0

    def test_what_waited_before_counts_from_the_beginning(self):
        queue = Waiting(2, 100.0)
        queue.add("new", 105.0)
        assert queue.oldest_s(110.0, 3) == 10.0
        queue.remove("old 1")
        queue.remove("old 2")
        assert queue.oldest_s(110.0, 1) == 5.0

    def test_an_empty_queue_forgets_what_left_it_without_a_word(self):
        queue = Waiting(1, 0.0)
        queue.add("damaged", 1.0)
        assert queue.oldest_s(5.0, 0) is None
        queue.add("new", 6.0)
        assert queue.oldest_s(7.0, 1) == 1.0

    def test_memory_is_bounded_and_the_oldest_stays_exact(self, monkeypatch):
        monkeypatch.setattr(waiting, "MOST_TRACKED", 3)
        queue = Waiting(0, 0.0)
        for n in range(10):
            queue.add(n, float(n))
        assert queue.oldest_s(20.0, 10) == 20.0
        for n in range(3):
            queue.remove(n)
        assert queue.oldest_s(20.0, 7) == 17.0, "the first of those not tracked began at 3"
        for n in range(3, 10):
            queue.remove(n)
        assert queue.oldest_s(20.0, 0) is None


class TestQueueAge:
    def test_the_head_is_as_old_as_the_moment_it_came(self):
        age = QueueAge()
        assert age.head_s(0, 0, 0.0) is None
        assert age.head_s(3, 3, 10.0) == 0.0
        assert age.head_s(5, 5, 20.0) == 10.0
        assert age.head_s(5, 2, 30.0) == 10.0, "the first three have gone; the next came at 20"
        assert age.head_s(5, 0, 40.0) is None
        assert age.head_s(6, 1, 50.0) == 0.0

    def test_marks_are_bounded(self, monkeypatch):
        monkeypatch.setattr(waiting, "MOST_MARKS", 10)
        age = QueueAge()
        for n in range(1, 1000):
            assert age.head_s(n, n, float(n)) == n - 1.0
