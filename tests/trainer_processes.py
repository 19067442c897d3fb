"""Trainer processes as their daemon sees them, and stores with frames to train on."""

from __future__ import annotations

import queue
import time
from pathlib import Path

from common.bitstream import encode_packet
from common.frame import FrameIdentity
from common.node.child import Child
from common.node.learning_messages import TRAINER_MODULE, Failed, Ready, Start, from_map, to_map
from common.store.records import RecordKind
from tests.learning_packets import original_of, scene_packet

DEVICE = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


class Trainer:
    """A trainer process and what it said."""

    def __init__(self):
        self.said = queue.Queue()
        self.code = queue.Queue()
        self.child = Child(
            TRAINER_MODULE,
            on_message=lambda value: self.said.put(from_map(value)),
            on_exit=self.code.put,
            threads=1,
        )

    def tell(self, message):
        self.child.send(to_map(message))

    def hear(self, *kinds, seconds=90):
        """The next message of one of these kinds."""
        end = time.monotonic() + seconds
        while True:
            message = self.said.get(timeout=max(0.1, end - time.monotonic()))
            if isinstance(message, kinds):
                return message

    def start(self, folder, settings):
        """Start on the store in a folder; what it answers."""
        self.tell(Start("fog", str(folder / "store"), str(folder / "work"), settings.model_dump(mode="json")))
        return self.hear(Ready, Failed)


def put(store, numbers, *, validation=False, packet=None):
    """Commit frames and append their packets to the log."""
    for number in numbers:
        made = packet or scene_packet(number, validation=validation)
        identity = FrameIdentity(DEVICE, 1, number)
        store.commit_frames([original_of(made, f"{number:06d}", identity)])
        store.finish(identity, RecordKind.PACKET, {}, encode_packet(made))


def descendants(pid):
    """Process ids below a process, with their command lines; Linux."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(folder.name)] = (int(fields[1]), command)
    found, below = {}, {pid}
    while below:
        below = {one for one, (parent, _) in parents.items() if parent in below}
        found |= {one: parents[one][1] for one in below}
    return found


def ranks_of(pid):
    """Process ids of a training on several devices below a trainer, the first rank first."""
    ranks = []
    for one, command in sorted(descendants(pid).items()):
        if "common.learning.parallel_worker" in command and "torch.distributed.run" not in command:
            try:
                environment = Path(f"/proc/{one}/environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            place = [v for v in environment.split("\0") if v.startswith("LOCAL_RANK=")]
            if place:
                ranks.append((int(place[0].partition("=")[2]), one))
    return [one for _, one in sorted(ranks)]
