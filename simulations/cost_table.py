"""Plans as rows: CSV files and short text for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cost_model import Plan, Strategy

__all__ = ["plan_row", "strategy_rows", "write_csv", "write_json"]


def strategy_rows(answer: Plan) -> list[dict[str, Any]]:
    """One row a strategy."""
    return [
        {
            "strategy": cost.strategy.value,
            "uplink_bytes": round(cost.uplink_bytes),
            "downlink_bytes": round(cost.downlink_bytes),
            "bytes": round(cost.bytes),
            "seconds": "" if cost.seconds is None else round(cost.seconds, 3),
            "binds": cost.binds,
            "chosen": cost.strategy is answer.choice,
        }
        for cost in answer.strategies
    ]


def plan_row(keys: Mapping[str, Any], answer: Plan) -> dict[str, Any]:
    """One row a scenario: its swept values, the bytes and seconds of every strategy, the choice."""
    row = dict(keys)
    for strategy in Strategy:
        cost = answer.cost(strategy)
        row[f"{strategy.value}_bytes"] = round(cost.bytes)
        row[f"{strategy.value}_seconds"] = "" if cost.seconds is None else round(cost.seconds, 3)
    row["choice"] = answer.choice.value
    row["decided_by"] = answer.decided_by
    return row


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with a header of the first row's keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, value: Mapping[str, Any] | Iterable[Any]) -> None:
    """Write readable JSON; NaN is refused."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
