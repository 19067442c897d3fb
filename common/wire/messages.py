"""The messages between edge and fog: frozen dataclasses whose annotations are their schema.

Every field's type, range and length stands in its annotation and is checked by
:mod:`common.wire.framing` on both encode and decode. A field named ``payload`` travels in a
ZeroMQ frame of its own. A field added in a later protocol version needs a default, so that
neighbouring versions understand each other; a message type added later has the name of a feature, which
Hello and Welcome tell, and is sent only to peers that told it.

This is the list of all of them, and where other packages import them from. They are defined in
:mod:`common.wire.edge_messages` (edge to fog: Hello, Upload, Correct, Pull, Fetch, Report,
Ping) and
:mod:`common.wire.fog_messages` (fog to edge: Welcome, Accepted, Refused, Corrected,
RecordMessage, CaughtUp, Chunk, Plan, Pong, Error), their field types and limits in :mod:`common.wire.fields`.
"""

from __future__ import annotations

from typing import TypeAlias

from common.wire.edge_messages import Correct, Fetch, Hello, Ping, Pull, Report, Upload
from common.wire.fields import (
    ANY_DEVICE,
    FEATURES,
    MAX_BOXES,
    MAX_NUMBERS,
    MAX_PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    ErrorCode,
    Subscription,
)
from common.wire.fog_messages import (
    Accepted,
    CaughtUp,
    Chunk,
    Corrected,
    Error,
    Plan,
    Pong,
    RecordMessage,
    Refused,
    Welcome,
)

__all__ = [
    "ANY_DEVICE",
    "FEATURES",
    "MAX_BOXES",
    "MAX_NUMBERS",
    "MAX_PAYLOAD_BYTES",
    "PROTOCOL_VERSION",
    "Accepted",
    "CaughtUp",
    "Chunk",
    "Correct",
    "Corrected",
    "Error",
    "ErrorCode",
    "Fetch",
    "Hello",
    "Message",
    "Ping",
    "Plan",
    "Pong",
    "Pull",
    "RecordMessage",
    "Refused",
    "Report",
    "Subscription",
    "Upload",
    "Welcome",
]

Message: TypeAlias = (
    Hello
    | Upload
    | Correct
    | Pull
    | Fetch
    | Report
    | Ping
    | Welcome
    | Accepted
    | Refused
    | Corrected
    | RecordMessage
    | CaughtUp
    | Chunk
    | Plan
    | Pong
    | Error
)
"""Any message."""
