"""A labelling process without torch: ``python -m stub_labeller``, for tests of the edge's daemon.

The detector's file says what it sees and does: JSON with ``detections`` and, to test its ends, ``die``
or ``hang``: how many processes do so at their first frame, counted in a file beside it.
"""

import json
import os
import sys
import time
from pathlib import Path

from common.node.labelling_messages import Look, NotSeen, Seen, from_map, to_map
from common.node.learning_messages import Stop
from common.node.pipe import connect_parent


def main():
    pipe = connect_parent()
    while (value := pipe.receive()) is not None:
        match from_map(value):
            case Look(ticket, detector, _):
                says = json.loads(Path(detector).read_text())
                ends = Path(detector).with_name("ends")
                before = len(ends.read_text()) if ends.exists() else 0
                if before < says.get("die", 0) + says.get("hang", 0):
                    ends.write_text("x" * (before + 1))
                    if "die" in says:
                        os._exit(9)
                    time.sleep(60)
                if "reason" in says:
                    pipe.send(to_map(NotSeen(ticket, says["reason"])))
                else:
                    pipe.send(to_map(Seen(ticket, says["detections"])))
            case Stop():
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
