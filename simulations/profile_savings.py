"""What each profile's measured packets would save in a scenario, beside the scenario's own alpha."""

from __future__ import annotations

from dataclasses import dataclass

from common.cost_model import plan
from simulations.cost_scenario import CostScenario
from simulations.events.sizes import SHIPPED_TABLES, load_table

__all__ = ["ProfileSaving", "profile_savings", "savings_table"]


@dataclass(frozen=True, slots=True)
class ProfileSaving:
    """One profile at one target.

    Attributes:
        profile: Its name.
        background_psnr_db, object_psnr_db: The target, dB.
        frames: Frames whose packets were measured.
        alpha: Their packet bytes / JPEG bytes.
        saving: Bytes of serverless JPEG / bytes of edge training in the scenario; None when nothing is sent.
        limit: What the saving tends to with ever more receivers, 1 / alpha; None when alpha is 0.
        fog_over_edge_frames: Frames beyond which training at the fog sends fewer bytes; None: never.
        source: Which frames were measured, and by which command.
    """

    profile: str
    background_psnr_db: float
    object_psnr_db: float
    frames: int
    alpha: float
    saving: float | None
    limit: float | None
    fog_over_edge_frames: float | None
    source: str


def profile_savings(scenario: CostScenario) -> tuple[ProfileSaving, ...]:
    """One entry for each target of each shipped size table.

    Raises:
        ConfigError: A table is malformed.
    """
    found = []
    for path in sorted(SHIPPED_TABLES.glob("*.json")):
        table = load_table(path.stem, SHIPPED_TABLES)
        for row in table.rows:
            answer = plan(scenario.model_copy(update={"alpha": row.alpha}).deployment())
            found.append(
                ProfileSaving(
                    profile=table.profile,
                    background_psnr_db=row.target[0],
                    object_psnr_db=row.target[1],
                    frames=len(row.packet_bytes),
                    alpha=row.alpha,
                    saving=answer.saving,
                    limit=1 / row.alpha if row.alpha else None,
                    fog_over_edge_frames=answer.crossings.fog_over_edge_frames,
                    source=table.source,
                )
            )
    return tuple(found)


def savings_table(alpha: float, saving: float | None, profiles: tuple[ProfileSaving, ...]) -> str:
    """Lines for people: the scenario's own saving, then each profile's."""
    lines = [f"{'alpha from':<16}{'target, dB':>12}{'alpha':>9}{'saving':>9}{'limit':>9}"]
    lines.append(
        f"{'the scenario':<16}{'':>12}{alpha:9.3f}{_times(saving)}{_times(1 / alpha if alpha else None)}"
    )
    for entry in profiles:
        target = f"{entry.background_psnr_db:g}, {entry.object_psnr_db:g}"
        lines.append(
            f"{entry.profile:<16}{target:>12}{entry.alpha:9.3f}{_times(entry.saving)}{_times(entry.limit)}"
        )
    return "".join(f"{line}\n" for line in lines)


def _times(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:8.2f}x"
