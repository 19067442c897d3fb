"""A node's status for people: sections of facts, tables and sentences, drawn with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Section",
    "count",
    "counts",
    "duration",
    "head_section",
    "rate",
    "render",
    "size",
    "store_facts",
    "training_section",
]

NONE = "-"
"""What stands for a value that is not known."""

Facts = Sequence[tuple[str, str]]
"""(name, value) of each; a value of ``-`` is left out."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the view.

    Attributes:
        title: Its name.
        facts: Short values.
        columns: Names of a table's columns.
        rows: The table's rows.
        sentences: What does not fit a table.
    """

    title: str
    facts: Facts = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    sentences: Sequence[str] = ()


def render(health: Mapping[str, Any], sections: Sequence[Section]) -> RenderableType:
    """The view of a status: first what is wrong, then the sections that hold something."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for style, kind in (("bold red", "failing"), ("yellow", "notes")):
        mark = "!" if kind == "failing" else "note:"
        findings = health.get(kind, ())
        parts += [
            Text(printable(f"{mark} {found['check']}: {found['sentence']}"), style=style)
            for found in findings
        ]
    for section in sections:
        facts = [(name, value) for name, value in section.facts if value != NONE]
        if not (facts or section.rows or section.sentences):
            continue
        parts.append(Text(section.title, style="bold"))
        if facts:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(overflow="fold")
            for name, value in facts:
                grid.add_row(name, Text(printable(value)))
            parts.append(Padding(grid, (0, 0, 0, 2), expand=False))
        if section.rows:
            table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
            for name in section.columns:
                table.add_column(name, overflow="fold")
            for row in section.rows:
                table.add_row(*(Text(printable(cell)) for cell in row))
            parts.append(Padding(table, (0, 0, 0, 2), expand=False))
        parts += [Text(f"    - {printable(line)}") for line in section.sentences]
    return Group(*parts)


def count(value: float | None) -> str:
    """A whole number with thousands set apart."""
    return NONE if value is None else f"{value:,.0f}"


def rate(value: float | None, unit: str, digits: int = 2) -> str:
    """A number with its unit."""
    return NONE if value is None else f"{value:,.{digits}f} {unit}"


def size(value: float | None) -> str:
    """Bytes in the unit that leaves up to four digits."""
    if value is None:
        return NONE
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= least:
            return f"{value / least:.2f} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None:
        return NONE
    for unit, least in (("days", 172_800), ("h", 7200), ("min", 120)):
        if seconds >= least:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.1f} s"


def counts(values: Mapping[str, float]) -> str:
    """Counts by name, those of 0 left out."""
    return ", ".join(f"{count(value)} {name}" for name, value in values.items() if value) or NONE


def head_section(status: Mapping[str, Any]) -> Section:
    """Who the node is and how it runs."""
    health = status.get("health") or {}
    process = status.get("process") or {}
    state = status["state"] if status["alive"] else f"not running (last seen {status['state']})"
    if status["alive"]:
        state += ", healthy" if health.get("healthy") else ", NOT HEALTHY"
    monitoring = status.get("monitoring") or {}
    return Section(
        f"{status['role']} node {status['version']}",
        (
            ("state", state),
            ("key", str(status["key"])),
            ("up for", duration(status["uptime_s"])),
            (
                "process",
                f"pid {status['pid']}, {size(process.get('rss_bytes'))}, "
                f"{duration(process.get('cpu_s'))} of CPU, {count(process.get('open_files'))} open files, "
                f"{count(process.get('threads'))} threads",
            ),
            (
                "children",
                ", ".join(f"pid {c['pid']} {size(c.get('rss_bytes'))}" for c in status.get("children", ()))
                or NONE,
            ),
            ("monitoring", monitoring.get("address") or monitoring.get("problem") or NONE),
        ),
    )


def store_facts(status: Mapping[str, Any]) -> Facts:
    """What the store holds and has lost."""
    retention, quarantine = status["retention"], status["quarantine"]
    dropped = f"{count(retention['dropped_records'])} records, {size(retention['dropped_record_bytes'])}"
    return (
        ("in the store", f"{count(retention['records'])} records, {size(retention['record_bytes'])}"),
        ("dropped by retention", dropped if retention["dropped_records"] else NONE),
        ("damaged", f"{quarantine['items']} items in quarantine" if quarantine["items"] else NONE),
        ("free on disk", size(status.get("disk_free_bytes"))),
    )


def training_section(training: Mapping[str, Any], more: Facts = ()) -> Section:
    """What is trained, and what was decided last."""
    decision = training["last_decision"]
    step, steps = training["step"], training["steps"]
    loss = "" if training["loss"] is None else f", loss {training['loss']:.3g}"
    sentences = []
    if decision is not None:
        verb = "deployed" if decision["deploy"] else "not deployed"
        sentences.append(f"{decision['source']} weights {verb}: {decision['reason']}")
    return Section(
        "training",
        (
            ("phase", str(training["phase"])),
            ("round", f"step {step} of {steps}{loss}" if step is not None else NONE),
            ("rounds", f"{training['rounds']} on {count(training['frames'])} frames to train on"),
            (
                "agreement",
                NONE if training["agreement"] is None else f"{training['agreement']:.0%} of new boxes found",
            ),
            ("crashes", count(training["crashes"]) if training["crashes"] else NONE),
            *more,
        ),
        sentences=sentences,
    )
