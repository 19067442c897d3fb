"""One chaos run: deploy, strike, calm, drain, stop, and the verdict."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.errors import DeploymentError, ResidualInrError
from simulations.chaos import passthrough
from simulations.chaos.deployment import Deployment, Options, deploy
from simulations.chaos.faults import Injector
from simulations.chaos.history import History, Verdict, check
from simulations.chaos.links import CableLinks, Links, ProxyLinks
from simulations.chaos.plan import Fault, Plan
from simulations.chaos.stores import SourceOf, committed, edge_holder, fog_holder, note_outbox

__all__ = ["Result", "Sample", "Struck", "judge", "run_plan", "source_reader"]

SAMPLE_S = 0.2

ENCODER_S = 120.0
"""Seconds that a real encoder may take to be ready on a busy machine."""


TRAINING_S = 60.0
"""Seconds that real trainers are given after the drain, all together."""


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was carried out.

    Attributes:
        fault: What was planned.
        begin_s, end_s: When it was, seconds after the edges had started.
        what: What was done, in a few words.
    """

    fault: Fault
    begin_s: float
    end_s: float
    what: str


@dataclass(frozen=True, slots=True)
class Sample:
    """How far the deployment was.

    Attributes:
        at_s: Seconds after the edges had started.
        acknowledged: Frames that edges know to be acknowledged.
        log_position: The fog's, of several their sum; None while one does not run.
        held: Position that each edge holds, by name; of several logs their sum.
        full: Whether a fog's log refuses frames.
    """

    at_s: float
    acknowledged: int
    log_position: int | None
    held: dict[str, int]
    full: bool


@dataclass
class Result:
    """What became of a run.

    Attributes:
        plan: What was drawn.
        struck: Faults in the order of their end.
        samples: Over time.
        verdict: None when it did not come to one.
        problems: What went wrong beside the verdict, in sentences.
        seconds: Wall seconds of each stage.
        relabelled: Frames whose labels were corrected at their source.
        rounds: Rounds of training that the last processes of all nodes have ended.
    """

    plan: Plan
    struck: list[Struck] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    verdict: Verdict | None = None
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    relabelled: int = 0
    rounds: int = 0

    @property
    def good(self) -> bool:
        """Whether the promise was kept and everything came back."""
        return self.verdict is not None and self.verdict.good and not self.problems

    def to_json(self) -> dict[str, Any]:
        """One line of the results."""
        return {
            "seed": self.plan.seed,
            "good": self.good,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "edges": len(self.plan.edges),
            "variants": self.plan.variant.names(),
            "refused": any(sample.full for sample in self.samples),
            "relabelled": self.relabelled,
            "rounds": self.rounds,
            "faults": [
                {
                    "kind": struck.fault.kind.value,
                    "place": struck.fault.place,
                    "begin_s": round(struck.begin_s, 2),
                    "end_s": round(struck.end_s, 2),
                    "what": struck.what,
                }
                for struck in self.struck
            ],
            "verdict": None if self.verdict is None else asdict(self.verdict),
            "problems": self.problems,
        }


def run_plan(plan: Plan, folder: Path, options: Options) -> Result:
    """Carry a run out.

    Args:
        plan: What to do.
        folder: Empty or new; stores, logs and configurations stay there; what is on small disks is copied
            there when something was wrong.
        options: Of the campaign.
    """
    result = Result(plan)
    bound = plan.variant.bound
    history = History(dropping=bound is not None and bound.when_full == "drop_oldest")
    source_of = source_reader(options)
    begin = time.monotonic()

    def links(names: Sequence[str], ports: Sequence[int]) -> Links:
        if options.cables_bytes_per_s is not None:
            return CableLinks(names, ports[0], options.cables_bytes_per_s)
        return ProxyLinks(names, ports, plan.seed)

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with deploy(folder, plan.seed, plan.edges, options, links, plan.variant) as deployment:
            if options.profile is not None:
                # Else all faults would be over before an encoder has imported torch.
                for fog in deployment.fogs:
                    fog.wait(lambda s: bool(s["workers"][0]["state"] == "ready"), ENCODER_S)
            for edge in deployment.edges:
                edge.start()
            for edge in deployment.edges:
                if not edge.ready():
                    raise DeploymentError(f"{edge.name} did not start: {edge.last_words}")
            result.seconds["start"] = time.monotonic() - begin
            struck = time.monotonic()
            _disturb(plan, deployment, Injector(deployment, history, folder), result)
            begin = time.monotonic()
            if not result.problems:
                if bound is not None and bound.when_full == "refuse":
                    deployment.lift()
                missing = deployment.drained(
                    options.drain_s, lambda: _sample(deployment, result, time.monotonic() - struck)
                )
                result.problems += [f"not everything was delivered: {missing}"] if missing else []
            result.seconds["drain"] = time.monotonic() - begin
            begin = time.monotonic()
            if options.train and not result.problems:
                _wait_for_training(deployment)
            statuses = [daemon.status() for daemon in deployment.daemons]
            result.rounds = sum(int(s["training"]["rounds"] or 0) for s in statuses if s is not None)
            result.seconds["training"] = time.monotonic() - begin
            begin = time.monotonic()
            _stop(deployment, result)
            try:
                result.verdict = judge(deployment, history, source_of)
            finally:
                result.seconds["verdict"] = time.monotonic() - begin
                if not result.good:
                    _keep(deployment, folder)
    except (ResidualInrError, OSError) as error:
        result.problems.append(f"{type(error).__name__}: {error}")
    (folder / "result.json").write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    return result


def _disturb(plan: Plan, deployment: Deployment, injector: Injector, result: Result) -> None:
    """Strike at the planned times, each fault in a thread of its own, and watch meanwhile."""
    start = time.monotonic()

    def strike(fault: Fault) -> None:
        time.sleep(max(0.0, start + fault.at_s - time.monotonic()))
        begin = time.monotonic() - start
        try:
            what = injector.strike(fault)
        except Exception as error:
            what = f"failed: {error}"
            result.problems.append(f"{fault.kind.value} of {fault.place}: {type(error).__name__}: {error}")
        result.struck.append(Struck(fault, begin, time.monotonic() - start, what))

    def relabel() -> None:
        for change in plan.variant.relabels:
            time.sleep(max(0.0, start + change.at_s - time.monotonic()))
            tracks = deployment.tracks[deployment.edges[change.edge].name]
            result.relabelled += tracks.change(change)

    threads = [threading.Thread(target=strike, args=(fault,), daemon=True) for fault in plan.faults]
    threads.append(threading.Thread(target=relabel, daemon=True))
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        _sample(deployment, result, time.monotonic() - start)
        time.sleep(SAMPLE_S)
    _sample(deployment, result, time.monotonic() - start)
    result.seconds["faults"] = time.monotonic() - start


def _sample(deployment: Deployment, result: Result, at_s: float) -> None:
    if result.samples and at_s - result.samples[-1].at_s < SAMPLE_S:
        return
    fogs = [fog.status() for fog in deployment.fogs]
    serving = [fog for fog in fogs if fog is not None]
    edges = {edge.name: edge.status() for edge in deployment.edges}
    known = {name: status for name, status in edges.items() if status is not None}
    result.samples.append(
        Sample(
            at_s,
            sum(int(status["outbox"]["acknowledged"]) for status in known.values()),
            sum(int(fog["log_position"]) for fog in serving) if len(serving) == len(fogs) else None,
            {name: sum(int(link["log_position"]) for link in s["fogs"]) for name, s in known.items()},
            any(fog["retention"]["full"] for fog in serving),
        )
    )


def _wait_for_training(deployment: Deployment) -> None:
    """Let trainers end a round; not one of a node that has begun none."""
    end = time.monotonic() + TRAINING_S
    for daemon in deployment.daemons:
        daemon.wait(
            lambda status: int(status["training"]["rounds"] or 0) > 0, max(0.0, end - time.monotonic())
        )


def _stop(deployment: Deployment, result: Result) -> None:
    """Every daemon ends by SIGTERM with exit code 0."""
    for daemon in reversed(deployment.daemons):
        if daemon.running:
            try:
                code = daemon.stop()
            except ResidualInrError as error:
                result.problems.append(str(error))
                continue
            if code:
                result.problems.append(f"{daemon.name} ended with code {code}: {daemon.last_words}")


def judge(deployment: Deployment, history: History, source_of: SourceOf) -> Verdict:
    """Compare the stores of stopped daemons with what happened.

    Args:
        deployment: Whose daemons have ended.
        history: What is known beside the edges' outboxes, which are added to it.
        source_of: Reads packets.
    """
    for edge in deployment.edges:
        note_outbox(history, edge.store, deployment.keys[edge.name])
    holders, logs = [], []
    for fog in deployment.fogs:
        holder, log, lost = fog_holder(fog.name, fog.store, source_of)
        holders.append(holder)
        logs.append(log)
        history.reported += lost
        for identity, position in committed(fog.store).items():
            # What was lost and came again is there.
            history.forgotten.discard(identity)
            if position is not None:
                history.positions[identity] = (log, position)
    subscribers = [
        edge_holder(edge.name, edge.store, deployment.keys[edge.name], logs, source_of)
        for edge in deployment.edges
    ]
    return check(history, holders, subscribers)


def _keep(deployment: Deployment, folder: Path) -> None:
    """Copy the stores that are on small disks to where they outlive the run."""
    for name in deployment.disks:
        shutil.copytree(deployment.daemon(name).disk, folder / name / "disk-at-the-end", dirs_exist_ok=True)


def source_reader(options: Options) -> SourceOf:
    """What reads the packets of the options' profile."""
    if options.profile is None:
        return passthrough.source_of
    # Imports torch, which runs without fitting do not need.
    from common.bitstream import decode_packet

    def source(packet: bytes) -> bytes:
        return decode_packet(packet).source_digest

    return source
