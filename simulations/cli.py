"""The ``simulate`` command."""

from __future__ import annotations

from collections.abc import Sequence

from common.cli import build_parser, run_command
from simulations import chaos_command, loopback, soak_command, sweep_command
from simulations import run_command as run_module

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``simulate`` and return its exit code."""
    parser, subparsers = build_parser(
        "simulate", "Deployments on this machine and the cost model over scenarios."
    )
    loopback.add_parser(subparsers)
    run_module.add_parser(subparsers)
    sweep_command.add_parser(subparsers)
    chaos_command.add_parser(subparsers)
    soak_command.add_parser(subparsers)
    return run_command(parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
