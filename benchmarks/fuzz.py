"""Millions of damaged inputs for every parser that reads bytes from outside.

    python benchmarks/fuzz.py [--inputs N] [--seed S] [--target NAME] [--tally FILE] [--json]

Messages, packets, weights, images, label files and settings files are made from the small corpus in
tests/fuzz/corpus by seeded mutations. A parser may refuse with one of this system's own errors, in one
sentence; anything else is a crash, and so is an input that takes longer than five seconds, ends the process,
or maps a gigabyte. Of every twentieth input each allocation is traced and held against the parser's bound.
The tally is written as it goes: the same command goes on where it was stopped. ``--show NAME NUMBER`` writes
one input to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from fuzzing.mutator import mutated
from fuzzing.tally import Tally, corpus_of, run_piece
from fuzzing.targets import TARGETS, remove_folder

PIECE = {
    "message": 20_000,
    "packet": 10_000,
    "weights": 10_000,
    "image": 2_000,
    "reader": 2_000,
    "settings": 500,
}
"""Inputs of one process."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 1 after a crash or an allocation above a bound."""
    parser = argparse.ArgumentParser(description="Fuzz every parser that reads bytes from outside.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this parser gets all of them")
    parser.add_argument("--tally", type=Path, default=Path("fuzz_tally.json"), help="written as it goes")
    parser.add_argument("--json", action="store_true", help="print the tally as one JSON object")
    parser.add_argument("--show", nargs=2, metavar=("NAME", "NUMBER"), help="write this input to stdout")
    options = parser.parse_args(argv)
    if options.show:
        name, number = options.show[0], int(options.show[1])
        sys.stdout.buffer.write(mutated(corpus_of(name), options.seed, name, number))
        return 0
    shares = {name: target.share for name, target in TARGETS.items()}
    if options.target:
        shares = {options.target: 1.0}
    tallies = {name: Tally() for name in shares}
    if options.tally.exists():
        kept = json.loads(options.tally.read_text())
        if kept["seed"] == options.seed:
            tallies |= {name: Tally(**kept["targets"][name]) for name in shares if name in kept["targets"]}
    wanted = {name: round(options.inputs * share) for name, share in shares.items()}
    progress = sys.stderr.isatty() and not options.json
    try:
        # The targets take turns, so that a run that is stopped early has seen all of them.
        while todo := [name for name in shares if tallies[name].inputs < wanted[name]]:
            name = min(todo, key=lambda key: tallies[key].inputs / wanted[key])
            tally = tallies[name]
            count = min(PIECE[name], wanted[name] - tally.inputs)
            tally.add(run_piece(name, options.seed, tally.inputs, count))
            _write(options.tally, options.seed, tallies)
            if progress:
                done = sum(entry.inputs for entry in tallies.values())
                crashes = sum(entry.crashes for entry in tallies.values())
                sys.stderr.write(f"\r{done:,} of {options.inputs:,} inputs, {crashes} crashes")
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstopped; the same command goes on from {options.tally}\n")
    finally:
        remove_folder()
    if progress:
        sys.stderr.write("\n")
    result = _summary(options.seed, tallies)
    if options.json:
        print(json.dumps(result))
    else:
        for name, entry in tallies.items():
            print(
                f"{name:9} {entry.inputs:8,} inputs, {entry.accepted:7,} accepted, {entry.crashes} crashes, "
                f"{entry.over_bound} over the bound of {TARGETS[name].bound >> 20} MiB (most "
                f"{entry.peak_bytes / 2**20:.1f}), longest {entry.longest_s:.3f} s, "
                f"{entry.inputs / max(entry.seconds, 1e-9):,.0f} inputs/s"
            )
            for fault in entry.faults[:5]:
                print(f"    {fault}")
    return 0 if not result["crashes"] and not result["over_bound"] else 1


def _summary(seed: int, tallies: dict[str, Tally]) -> dict[str, object]:
    return {
        "seed": seed,
        "inputs": sum(entry.inputs for entry in tallies.values()),
        "crashes": sum(entry.crashes for entry in tallies.values()),
        "over_bound": sum(entry.over_bound for entry in tallies.values()),
        "seconds": sum(entry.seconds for entry in tallies.values()),
        "time": time.time(),
        "targets": {name: asdict(entry) for name, entry in tallies.items()},
    }


def _write(path: Path, seed: int, tallies: dict[str, Tally]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(_summary(seed, tallies), indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
