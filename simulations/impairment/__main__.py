"""``python -m simulations.impairment --config YAML``: a proxy that takes commands on stdin."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from common.config import load_settings
from common.errors import ResidualInrError
from simulations.impairment.server import COMMANDS, serve
from simulations.impairment.settings import ImpairmentSettings

__all__ = ["main"]


def main() -> int:
    """Run until stdin ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.impairment",
        description="Forward TCP connections over links that are slow, late or broken. The first line on "
        "stdout tells the ports; each line on stdin is a JSON object with the key do: "
        f"{', '.join(COMMANDS)}. Ends with stdin.",
    )
    parser.add_argument("--config", metavar="YAML", type=Path, required=True, help="links and media")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(load_settings(arguments.config, ImpairmentSettings)))
    except ResidualInrError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
