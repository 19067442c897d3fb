"""The tables of both stores: one script a schema version, applied in order when a store is opened."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["APPLICATION_IDS", "SCHEMAS", "Role"]

Role = str
"""``fog`` or ``edge``."""

APPLICATION_IDS: Mapping[Role, int] = {"fog": 0x52494E46, "edge": 0x52494E45}
"""SQLite ``application_id`` of each role ("RINF", "RINE"): a store is never opened as the other."""

STATE = """
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
"""The table of numbers that every store keeps, see :meth:`common.store.database.Database.state`."""

FOG_1 = """
CREATE TABLE frames (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    fingerprint BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL,
    facts TEXT NOT NULL, held_out INTEGER NOT NULL, checksum BLOB NOT NULL,
    position INTEGER, kept INTEGER NOT NULL, image BLOB,
    UNIQUE (device, epoch, number)
);
CREATE INDEX frames_pending ON frames (arrival) WHERE position IS NULL;
CREATE INDEX frames_held_out ON frames (arrival) WHERE held_out = 1;
CREATE INDEX frames_digest ON frames (digest);
CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    kind TEXT NOT NULL, device TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, meta TEXT NOT NULL, checksum BLOB NOT NULL,
    payload BLOB,
    UNIQUE (device, epoch, number, kind)
);
CREATE INDEX log_kind ON log (kind, position);
CREATE INDEX log_digest ON log (digest);
"""
"""Uploads and the log."""

FOG_2 = """
ALTER TABLE log ADD COLUMN keyframe BLOB;
CREATE INDEX log_keyframe ON log (keyframe, position) WHERE keyframe IS NOT NULL;
"""
"""Keyframes, which the log keeps as long as a packet refers to them."""

EDGE_1 = """
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY,
    device TEXT NOT NULL, epoch INTEGER NOT NULL, source_key BLOB NOT NULL UNIQUE,
    digest BLOB NOT NULL, size INTEGER NOT NULL, facts TEXT NOT NULL, held_out INTEGER NOT NULL,
    checksum BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', reason TEXT,
    kept INTEGER NOT NULL DEFAULT 1, image BLOB
);
CREATE INDEX outbox_waiting ON outbox (number) WHERE state = 'waiting';
CREATE INDEX outbox_refused ON outbox (number) WHERE state = 'refused';
CREATE INDEX outbox_held_out ON outbox (number) WHERE held_out = 1;
CREATE INDEX outbox_digest ON outbox (digest);
CREATE TABLE inbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL, device TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, meta TEXT NOT NULL, checksum BLOB NOT NULL,
    source_digest BLOB, source_size INTEGER, payload BLOB,
    UNIQUE (device, epoch, number, kind)
);
CREATE INDEX inbox_kind ON inbox (kind, sequence);
CREATE INDEX inbox_digest ON inbox (digest);
CREATE INDEX inbox_source ON inbox (sequence) WHERE source_digest IS NOT NULL;
CREATE TABLE originals (digest BLOB PRIMARY KEY, size INTEGER NOT NULL, image BLOB);
"""
"""Outbox and inbox."""

EDGE_2 = """
ALTER TABLE inbox ADD COLUMN keyframe BLOB;
ALTER TABLE inbox ADD COLUMN keyframe_size INTEGER;
ALTER TABLE inbox ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
CREATE INDEX inbox_waiting ON inbox (keyframe, sequence) WHERE waiting = 1;
CREATE TABLE keyframes (digest BLOB PRIMARY KEY, size INTEGER, packet BLOB);
"""
"""Keyframes, and packets that wait for them."""

EDGE_3 = """
CREATE TABLE logs (log_id INTEGER PRIMARY KEY, position INTEGER NOT NULL);
INSERT INTO logs SELECT value, coalesce((SELECT value FROM state WHERE key = 'position'), 0)
    FROM state WHERE key = 'log_id';
DELETE FROM state WHERE key = 'position';
ALTER TABLE inbox ADD COLUMN log INTEGER;
UPDATE inbox SET log = (SELECT value FROM state WHERE key = 'log_id');
"""
"""A position for each of several logs, and which log brought a record."""

QUARANTINE = """
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL, place, last INTEGER, time INTEGER NOT NULL, reason TEXT NOT NULL,
    facts TEXT NOT NULL, content BLOB,
    UNIQUE (source, place)
);
"""
"""What was found damaged, out of the way of what is sound."""

FOG_4 = """
ALTER TABLE log ADD COLUMN time INTEGER NOT NULL DEFAULT :now;
CREATE INDEX log_age ON log (position, time, size);
CREATE INDEX frames_kept ON frames (position, size) WHERE kept = 1 AND position IS NOT NULL;
"""
"""When a record was appended, for retention, and quarantine."""

EDGE_4 = """
ALTER TABLE inbox ADD COLUMN time INTEGER NOT NULL DEFAULT :now;
CREATE INDEX inbox_age ON inbox (sequence, time, size);
CREATE INDEX inbox_keyframe ON inbox (keyframe, sequence) WHERE keyframe IS NOT NULL;
CREATE INDEX inbox_original ON inbox (source_digest, sequence) WHERE source_digest IS NOT NULL;
CREATE INDEX outbox_kept ON outbox (number, size) WHERE kept = 1 AND state = 'acknowledged';
CREATE TABLE dropped (
    device TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL,
    digest BLOB NOT NULL, log INTEGER, PRIMARY KEY (device, epoch, number, kind)
) WITHOUT ROWID;
"""
"""When a record was applied, for retention; what of each dropped one remains; and quarantine."""

CORRECTIONS = """
CREATE TABLE corrections (
    number INTEGER PRIMARY KEY, revision INTEGER NOT NULL, labels TEXT NOT NULL, checksum BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting', reason TEXT
);
CREATE INDEX corrections_waiting ON corrections (number) WHERE state = 'waiting';
"""
"""An edge's newest labels of its own frames that were corrected."""

FOG_PRIORITIES = """
ALTER TABLE frames ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX frames_pending;
CREATE INDEX frames_pending ON frames (priority DESC, arrival) WHERE position IS NULL;
"""
"""The priority of a frame, in whose order frames are encoded."""

EDGE_PRIORITIES = """
ALTER TABLE outbox ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN expires REAL;
DROP INDEX outbox_waiting;
CREATE INDEX outbox_waiting ON outbox (priority DESC, number, size) WHERE state = 'waiting';
CREATE INDEX outbox_expiring ON outbox (expires, number) WHERE state = 'waiting' AND expires IS NOT NULL;
CREATE INDEX outbox_expired ON outbox (number) WHERE state = 'expired';
"""
"""The priority of a frame, in whose order frames are uploaded, and when it is no longer worth that."""

SCHEMAS: Mapping[Role, tuple[str, ...]] = {
    "fog": (STATE + FOG_1, FOG_2, "", FOG_4 + QUARANTINE + FOG_PRIORITIES),
    "edge": (STATE + EDGE_1, EDGE_2, EDGE_3, EDGE_4 + QUARANTINE + CORRECTIONS + EDGE_PRIORITIES),
}
"""Of each role: the SQL that makes version 1, and then each version of the one before it.

The version of a store is SQLite's ``user_version``. A script is never changed once it was released: stores
that it has made are out there. ``:now`` stands for the present time, whole seconds since 1970.
"""
