"""The cheap check of an upload before it is committed: nothing is decoded, nothing large allocated."""

from __future__ import annotations

from common.errors import BoxError, ImageError, MessageError, ResidualInrError
from common.frame import Frame
from common.images import ImageLimits, image_header
from common.wire.messages import ErrorCode, Upload
from fog_node.settings import FogSettings

__all__ = ["UnknownClassError", "check_upload", "error_code"]


class UnknownClassError(BoxError):
    """A box names a class that the deployment does not have."""


def check_upload(upload: Upload, device: str, settings: FogSettings) -> Frame:
    """The uploaded frame, if it may be stored.

    Args:
        upload: As received.
        device: Authenticated key of the sender.
        settings: Hold the bounds on images and boxes, and the deployment's classes.

    Raises:
        ImageError: Not a JPEG, truncated, too large, or of another size than the upload says.
        BoxError: Too many boxes, or a box that is no region.
        UnknownClassError: A box's class is not one of the deployment, nor mapped to one.
        MessageError: The image does not match its digest, or unlabelled with boxes.
    """
    limits, detector = settings.limits, settings.training.detector
    if len(upload.boxes) > limits.frame_boxes:
        raise BoxError(
            f"frame {upload.number} has {len(upload.boxes)} boxes, more than the limit of "
            f"{limits.frame_boxes}; leave some out or raise limits.frame_boxes at the fog"
        )
    frame = upload.to_frame(device)
    for box in frame.boxes:
        if detector.class_index(box.name) is None:
            raise UnknownClassError(
                f"frame {upload.number} has a box of class {box.name!r}, which is none of "
                f"{', '.join(detector.classes)}; add it to training.detector.classes or class_map at the fog"
            )
    header = image_header(frame.image, ImageLimits(limits.frame_pixels, settings.wire.max_message_bytes))
    if header.format != "JPEG":
        raise ImageError(f"frame {upload.number} is a {header.format}; devices upload JPEG: convert it")
    if (header.width, header.height) != (upload.width, upload.height):
        raise ImageError(
            f"frame {upload.number} is announced as {upload.width}x{upload.height} pixels, "
            f"its image has {header.width}x{header.height}"
        )
    return frame


def error_code(error: ResidualInrError) -> ErrorCode:
    """The code that goes with an error of :func:`check_upload`."""
    if isinstance(error, ImageError):
        return ErrorCode.BAD_IMAGE
    if isinstance(error, UnknownClassError):
        return ErrorCode.UNKNOWN_CLASS
    if isinstance(error, BoxError):
        return ErrorCode.BAD_BOX
    return ErrorCode.BAD_MESSAGE if isinstance(error, MessageError) else ErrorCode.INTERNAL
