"""The fog's list of devices: a YAML file that people edit, re-read when it changes."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydantic
import yaml
from pydantic import Field

from common.config import Settings, parse_settings
from common.errors import ConfigError, reason
from common.wire.keys import KEY_PATTERN, check_public_key, others_can_write
from common.wire.messages import ANY_DEVICE
from common.wire.schedule import Windows, parse_window

__all__ = ["AllowList", "Device"]

MOST_BYTES_PER_S = 1e12
"""A bandwidth that no link has, bytes a second."""

HEADER = """\
# Devices that this fog knows, by public key. A key that is not here is not let in.
#   may_upload     whether it may upload frames
#   may_subscribe  devices whose records it may receive: their keys, or "*" for all
#   downlink_bytes_per_s, download_windows
#                  how much it is sent and when, in place of what the fog's configuration says under traffic
# The fog reads this file again when it changes.
devices:
"""


@dataclass(frozen=True, slots=True)
class Device:
    """What one device may do.

    Attributes:
        key: Its public key, 40 characters of Z85.
        may_upload: Whether it may upload frames.
        may_subscribe: Keys of the devices whose records it may receive; ``"*"`` for all.
        name: For people.
        downlink_bytes_per_s: Bytes of records and content that it is sent a second at most; None: as the
            fog's configuration says.
        download_windows: Local times of the fog at which it is sent them, as
            :func:`common.wire.schedule.parse_window` reads them; None: as the fog's configuration says.
    """

    key: str
    may_upload: bool = False
    may_subscribe: tuple[str, ...] = ()
    name: str = ""
    downlink_bytes_per_s: float | None = None
    download_windows: tuple[str, ...] | None = None

    def may_receive(self, device: str) -> bool:
        """Whether it may receive records of this source device."""
        return ANY_DEVICE in self.may_subscribe or device in self.may_subscribe


class _Entry(Settings):
    key: str
    may_upload: bool = False
    may_subscribe: tuple[str, ...] = Field(default=(), max_length=10_000)
    name: str = Field(default="", max_length=200)
    downlink_bytes_per_s: float | None = Field(default=None, gt=0, le=MOST_BYTES_PER_S)
    download_windows: Windows | None = None

    @pydantic.field_validator("key")
    @classmethod
    def _key(cls, value: str) -> str:
        if not KEY_PATTERN.fullmatch(value):
            raise ValueError("expected a public key of 40 characters, in quotes")
        return value

    @pydantic.field_validator("may_subscribe", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list | tuple):
            for name in names:
                if name != ANY_DEVICE and not (isinstance(name, str) and KEY_PATTERN.fullmatch(name)):
                    raise ValueError('expected public keys of 40 characters, or "*"')
        return names


class _File(Settings):
    devices: tuple[_Entry, ...] | None = Field(default=None, max_length=100_000)


class AllowList:
    """The list as it stands in its file; safe to read from any thread.

    Args:
        path: The YAML file; a missing one is an empty list.

    Raises:
        ConfigError: The file is malformed, or others can write to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int, int] | None = None
        self._devices: dict[str, Device] = {}
        self.reload()

    def reload(self) -> bool:
        """Read the file again if it changed; returns whether it did.

        Raises:
            ConfigError: The file is malformed, cannot be read, or others can write to it; the list stays as
                it was, and the file is read again the next time.
        """
        with self._lock:
            stamp = self._stat()
            if stamp == self._stamp:
                return False
            self._devices = {} if stamp is None else _parse(self._read(), self.path.name)
            # Only now: what could not be read must not count as known.
            self._stamp = stamp
            return True

    def get(self, key: str) -> Device | None:
        """The device with this key, or None if it is not let in."""
        return self._devices.get(key)

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices, in the file's order."""
        return tuple(self._devices.values())

    def add(self, device: Device) -> None:
        """Write a device into the file, replacing the entry of its key; comments stay.

        The file is replaced in one step, so a reader sees the old list or the new one.

        Raises:
            ConfigError: The device or the file is malformed, or it cannot be written.
        """
        check_public_key(device.key)
        for key in device.may_subscribe:
            if key != ANY_DEVICE:
                check_public_key(key)
        rate = device.downlink_bytes_per_s
        if rate is not None and not 0 < rate <= MOST_BYTES_PER_S:
            raise ConfigError(f"a device cannot be sent {rate} bytes a second; give a number above 0")
        for text in device.download_windows or ():
            try:
                parse_window(text)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path.parent):
            text = self._read() if self.path.exists() else ""
            expected = {**_parse(text, self.path.name), device.key: device}
            edited = _edited(text, device)
            if not _holds(edited, expected):
                # A layout that cannot be edited line by line, such as {devices: [...]}.
                edited = HEADER + "".join(_block(entry, "  ") for entry in expected.values())
            _replace(self.path, edited)
        self.reload()

    def _stat(self) -> tuple[int, int, int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read the allow-list {self.path}: {reason(error)}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode

    def _read(self) -> str:
        try:
            if others_can_write(self.path):
                raise ConfigError(
                    f"others can write to the allow-list {self.path}; run 'chmod go-w {self.path}'"
                )
            folder = self.path.resolve().parent.stat().st_mode
            if folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
                raise ConfigError(
                    f"everyone can replace the allow-list {self.path}; run 'chmod o-w' on its folder"
                )
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the allow-list {self.path}: {reason(error)}") from error


def _parse(text: str, name: str) -> dict[str, Device]:
    entries = parse_settings(text, _File, name=name).devices or ()
    devices: dict[str, Device] = {}
    for entry in entries:
        if entry.key in devices:
            raise ConfigError(f"{name} lists the key {entry.key} twice; keep one entry")
        devices[entry.key] = Device(**dict(entry))
    return devices


def _block(device: Device, indent: str) -> str:
    """One entry as YAML lines; no Z85 character needs escaping inside double quotes."""
    name = yaml.safe_dump(device.name, default_style='"', allow_unicode=True, width=10_000).strip()
    keys = ", ".join(f'"{key}"' for key in device.may_subscribe)
    lines = [
        f'{indent}- key: "{device.key}"',
        *([f"{indent}  name: {name}"] if device.name else []),
        f"{indent}  may_upload: {str(device.may_upload).lower()}",
        f"{indent}  may_subscribe: [{keys}]",
    ]
    if device.downlink_bytes_per_s is not None:
        lines.append(f"{indent}  downlink_bytes_per_s: {device.downlink_bytes_per_s!r}")
    if device.download_windows is not None:
        windows = ", ".join(f"'{text}'" for text in device.download_windows)
        lines.append(f"{indent}  download_windows: [{windows}]")
    return "\n".join(lines) + "\n"


def _edited(text: str, device: Device) -> str:
    """The text with the device's entry replaced in place or appended."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries: list[yaml.Node] = []
    if isinstance(root, yaml.MappingNode) and root.value and isinstance(root.value[0][1], yaml.SequenceNode):
        entries = root.value[0][1].value
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    indent = "  "
    for entry in entries:
        if not isinstance(entry, yaml.MappingNode):
            continue
        indent = " " * max(0, entry.start_mark.column - 2)
        if any(key.value == "key" and value.value == device.key for key, value in entry.value):
            last = max(value.end_mark.line for _, value in entry.value)
            return "".join([*lines[: entry.start_mark.line], _block(device, indent), *lines[last + 1 :]])
    if not lines:
        return HEADER + _block(device, indent)
    return "".join([*lines, _block(device, indent)])


def _holds(text: str, expected: dict[str, Device]) -> bool:
    try:
        return _parse(text, "") == expected
    except ConfigError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time, by the kernel's lock on the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    """Replace the file in one step; it keeps its place behind a link, its mode and, for root, its owner.

    So root may edit the list of a daemon that runs as another user.
    """
    try:
        path = path.resolve()
        before = path.stat() if path.exists() else None
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                if before is not None:
                    os.fchmod(handle.fileno(), stat.S_IMODE(before.st_mode))
                    if os.geteuid() == 0:
                        os.fchown(handle.fileno(), before.st_uid, before.st_gid)
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"cannot write the allow-list {path}: {reason(error)}") from error
