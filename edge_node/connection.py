"""When to connect, greet, ping and give up: the edge's side of one session, as a pure state machine."""

from __future__ import annotations

import enum
import random

from common.wire.backoff import Backoff
from common.wire.heartbeat import Heartbeat
from common.wire.settings import WireSettings

__all__ = ["Connection", "Phase", "Step"]


class Phase(enum.StrEnum):
    """Where the connection stands."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    GREETING = "greeting"
    OPEN = "open"


class Step(enum.StrEnum):
    """Instructions."""

    OPEN = "open"
    """Make a socket."""
    HELLO = "hello"
    """Try to send Hello; when the socket takes it, call :meth:`Connection.greeted`."""
    PING = "ping"
    """Send a Ping."""
    CLOSE = "close"
    """Close the socket; the session, if there was one, has ended."""


class Connection:
    """One edge's connection to its fog.

    Args:
        settings: Heartbeats, handshake time and back-off.
        source: Randomness of the back-off.
    """

    def __init__(self, settings: WireSettings, source: random.Random | None = None) -> None:
        self._settings = settings
        self._backoff = Backoff(settings.backoff_first_seconds, settings.backoff_last_seconds, source)
        self._phase = Phase.CLOSED
        self._deadline = 0.0
        self._heartbeat = Heartbeat(0.0)
        self._stopped = False

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._phase

    def tick(self, now: float) -> list[Step]:
        """Time has passed."""
        match self._phase:
            case Phase.CLOSED:
                if self._stopped or not self._backoff.ready(now):
                    return []
                self._phase = Phase.CONNECTING
                self._deadline = now + self._settings.handshake_seconds
                return [Step.OPEN]
            case Phase.CONNECTING:
                return self.failed(now) if now >= self._deadline else [Step.HELLO]
            case Phase.GREETING:
                return self.failed(now) if now >= self._deadline else []
            case Phase.OPEN:
                if self._heartbeat.lost(now):
                    return self.failed(now)
                return [Step.PING] if self._heartbeat.ping_due(now) else []

    def greeted(self, now: float) -> None:
        """Hello has left: a Welcome is due."""
        self._phase = Phase.GREETING
        self._deadline = now + self._settings.handshake_seconds

    def welcomed(self, heartbeat_seconds: float, now: float) -> None:
        """The fog has answered: the session is open.

        It pings at the quicker of both sides' heartbeats and waits as long as the slower one asks for, so
        that neither takes the other for dead.
        """
        self._phase = Phase.OPEN
        self._backoff.succeeded()
        own = self._settings.heartbeat_seconds
        patience = max(own, heartbeat_seconds) * self._settings.liveness
        self._heartbeat = Heartbeat(now, min(own, heartbeat_seconds), patience)

    def session_lost(self, now: float) -> None:
        """The fog no longer knows the session, but the connection stands: say Hello again."""
        if self._phase is Phase.OPEN:
            self._phase = Phase.CONNECTING
            self._deadline = now + self._settings.handshake_seconds

    def heard(self, now: float) -> None:
        """Anything came from the fog."""
        self._heartbeat.heard(now)

    def sent(self, now: float) -> None:
        """Anything was sent to the fog."""
        self._heartbeat.sent(now)

    def failed(self, now: float) -> list[Step]:
        """The connection is of no use: close it and try again after a wait."""
        if self._phase is Phase.CLOSED:
            return []
        self._phase = Phase.CLOSED
        self._backoff.failed(now)
        return [Step.CLOSE]

    def stop(self) -> list[Step]:
        """Close for good."""
        self._stopped = True
        if self._phase is Phase.CLOSED:
            return []
        self._phase = Phase.CLOSED
        return [Step.CLOSE]
