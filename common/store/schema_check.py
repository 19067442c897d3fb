"""Whether a database's tables are still what the program made them: SQLite's own checks do not ask that."""

from __future__ import annotations

import contextlib
import sqlite3

from common.store.schema import SCHEMAS, Role

__all__ = ["altered_table"]

Columns = list[tuple[str, str, int]]
"""Name, type and place in the primary key of each column."""


def altered_table(connection: sqlite3.Connection, role: Role) -> str | None:
    """The first table whose columns are not those of the newest schema; None when all are.

    A flipped bit in the text of a definition leaves a database that SQLite calls sound, in which every row
    looks damaged: such a store must not be opened, since its rows would go into quarantine.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(" ".join(SCHEMAS.get(role, ())).replace(":now", "0"))
        names = [row[0] for row in fresh.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in names:
            if _columns(connection, name) != _columns(fresh, name):
                return str(name)
    return None


def _columns(connection: sqlite3.Connection, table: str) -> Columns:
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (table,))
    return [(row[0], row[1], row[2]) for row in rows]
