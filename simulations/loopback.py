"""``simulate loopback``: a fog and several edges as real processes on this machine, end to end."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, print_json
from common.errors import DeploymentError, UsageError

if TYPE_CHECKING:
    from simulations.deployment import DeploymentFiles
    from simulations.loopback_scenario import LoopbackScenario
    from simulations.recordings import Recordings
    from simulations.report import LoopbackResult
    from simulations.stages import Stages
    from simulations.watch import Status

__all__ = ["add_parser", "run_loopback"]

POLL_S = 0.5
"""Seconds between two looks at the nodes; they write their status as often."""


def add_parser(subparsers: Any) -> None:
    """Add ``loopback``."""
    parser = subparsers.add_parser(
        "loopback",
        help="a fog and several edges as real processes on this machine",
        description="Record, encode, share, train and adapt with real daemons on this machine. Without "
        "--data the frames are moving crops of two photographs that ship inside the ultralytics package.",
    )
    parser.add_argument(
        "--data",
        metavar="SRC",
        nargs="+",
        help="one source of labelled frames, whose halves are the two clips, or two, one a clip",
    )
    parser.add_argument("--edges", metavar="N", type=int, help="edge nodes, at least 2 (default: 3)")
    parser.add_argument("--frames", metavar="N", type=int, help="frames of both clips together (default: 42)")
    parser.add_argument("--scenario", metavar="YAML", type=Path, help="a scenario instead of the shipped one")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/demo"), help="work folder (default: out/demo)"
    )
    add_json(parser)
    parser.set_defaults(command=_command)


def _command(arguments: argparse.Namespace) -> int:
    from simulations.report import print_table

    scenario = _scenario(arguments.scenario, arguments.edges, arguments.frames)
    result = run_loopback(scenario, arguments.out, data=arguments.data, quiet=arguments.json)
    if arguments.json:
        print_json(result.to_json())
    else:
        print_table(result)
    if result.problem is not None:
        raise DeploymentError(result.problem)
    return 0


def _scenario(path: Path | None, edges: int | None, frames: int | None) -> LoopbackScenario:
    """The scenario with the options of the command line.

    Raises:
        ConfigError: The file cannot be used.
        UsageError: The options do not fit together.
    """
    import pydantic

    from simulations.loopback_scenario import LoopbackScenario, load_loopback_scenario

    scenario = load_loopback_scenario() if path is None else load_loopback_scenario(path)
    data = scenario.model_dump()
    if edges is not None:
        data |= {"edges": edges, "trainers": min(scenario.trainers, max(edges, 1))}
    if frames is not None:
        data["frames"] = frames
    try:
        return LoopbackScenario.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = f"--{first['loc'][0]}: " if first["loc"] else ""
        raise UsageError(f"{name}{str(first['msg']).removeprefix('Value error, ')}") from error


def run_loopback(
    scenario: LoopbackScenario, out: Path, *, data: Sequence[str] | None = None, quiet: bool = False
) -> LoopbackResult:
    """Deploy, wait, stop, verify and measure.

    Args:
        scenario: Nodes, clips and training.
        out: Work folder; what an earlier run left there is replaced.
        data: Sources in place of the scenario's clips.
        quiet: Show no progress even on a terminal.

    Raises:
        UsageError: The work folder or the sources cannot be used.
        DeploymentError: A node ended early, or the run took longer than the scenario allows.
        DatasetError: A source cannot be read.
    """
    from simulations.deployment import prepare
    from simulations.processes import termination_as_interrupt
    from simulations.recordings import made_recordings, read_recordings
    from simulations.stages import Stages
    from simulations.work_folder import work_folder

    with termination_as_interrupt(), work_folder(out) as folder, Stages(quiet=quiet) as stages:
        stages.update("preparing the clips")
        recordings = made_recordings(scenario) if data is None else read_recordings(data, scenario)
        files = prepare(folder / "nodes", scenario, recordings)
        fog, edges = _deploy(files, scenario, recordings, stages, folder / "logs")
        stages.update("evaluating")
        # Imports torch, which the nodes' stages must not wait for.
        from simulations.outcome import Run, collect

        run = Run(folder, files, scenario, recordings, data is None, fog, edges, stages.seconds)
        result = collect(run)
        return replace(result, seconds={k: round(v, 1) for k, v in stages.finish().items()})


def _deploy(
    files: DeploymentFiles,
    scenario: LoopbackScenario,
    recordings: Recordings,
    stages: Stages,
    logs: Path,
) -> tuple[Status, tuple[Status, ...]]:
    """Start every node, wait until the work is done, stop them; returns their last statuses."""
    from simulations.deployment import write_edges
    from simulations.processes import Nodes
    from simulations.watch import Expectation, Stage, observe, status_of

    frames = len(recordings.all_frames)
    expected = Expectation(len(recordings.clips[0]), frames, scenario.trainers)
    deadline = time.monotonic() + scenario.timeout_s
    stores = [files.edge_store(edge) for edge in range(scenario.edges)]
    with Nodes({"YOLO_OFFLINE": "1"}) as nodes:
        arguments = ["serve", "--config", str(files.fog / "fog.yaml")]
        nodes.start("fog", "fog_node.cli", arguments, logs / "fog.log")
        started = False
        while True:
            fog = status_of(files.fog_store)
            edges = [status_of(store) for store in stores]
            seen = observe(expected, fog, edges if started else [])
            if seen.stage is Stage.DONE:
                break
            stages.update(seen.stage.value, seen.done, seen.total)
            nodes.check()
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"the run was still {seen.stage.value} ({seen.done} of {seen.total}) after "
                    f"{scenario.timeout_s:.0f} s; look at {logs}, or raise timeout_s in the scenario"
                )
            if not started and fog is not None and seen.stage is not Stage.START:
                write_edges(files, scenario, recordings, int(fog["port"]))
                for edge, place in enumerate(files.edges):
                    arguments = ["run", "--config", str(place / "edge.yaml")]
                    log = logs / f"edge{edge + 1}.log"
                    nodes.start(f"edge {edge + 1}", "edge_node.cli", arguments, log)
                started = True
            time.sleep(POLL_S)
        stages.update("stopping the nodes")
        codes = nodes.stop()
    bad = {name: code for name, code in codes.items() if code}
    if bad:
        name, code = next(iter(bad.items()))
        raise DeploymentError(f"the {name} ended with code {code} when it was stopped; look at {logs}")
    statuses = [status_of(store) for store in (files.fog_store, *stores)]
    missing = [
        store for store, status in zip((files.fog_store, *stores), statuses, strict=True) if status is None
    ]
    if missing:
        raise DeploymentError(f"a node left no status in {missing[0]}; look at {logs}")
    last = [status for status in statuses if status is not None]
    return last[0], tuple(last[1:])
