"""Which device to compute on."""

from __future__ import annotations

import torch

from common.errors import ResidualInrError

__all__ = ["DeviceError", "resolve_device"]


class DeviceError(ResidualInrError):
    """The named device is not on this machine."""

    exit_code = 2


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``: "auto" is CUDA when there is one, else the CPU.

    Raises:
        DeviceError: It is not there, or the name is unknown.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"device {name!r} is not here: {count} CUDA devices were found; use cpu or auto")
    return device
