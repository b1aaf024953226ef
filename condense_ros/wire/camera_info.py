"""sensor_msgs/CameraInfo <-> `CameraModel`."""

from __future__ import annotations

import numpy as np

from condense_ros.errors import GeometryError, WireError
from condense_ros.geometry import CameraModel
from condense_ros.wire import cdr
from condense_ros.wire.header import Header, header_from_message, header_to_message
from condense_ros.wire.image import check_size

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

#: distortion model -> numbers of coefficients it may come with
_MODELS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), "": (0,)}


def decode_camera_info(raw: cdr.Bytes) -> tuple[Header, CameraModel]:
    """Intrinsics and distortion of the full-resolution, unrectified image.

    Binning and region of interest are refused rather than ignored: they move the principal point.

    Raises:
        WireError: malformed bytes, K = 0 (uncalibrated), another distortion model, binning or ROI.
    """
    message = cdr.deserialize(CAMERA_INFO, raw)
    header = header_from_message(message.header)
    check_size(message.width, message.height)
    K = np.array(message.k, dtype=np.float64).reshape(3, 3)
    D = np.array(message.d, dtype=np.float64)
    if not K.any():
        raise WireError(
            "camera_info has K = 0: the camera is not calibrated",
            "calibrate it and let its driver load the result; intrinsics are never guessed",
        )
    if D.size not in _MODELS.get(message.distortion_model, ()) and D.any():
        raise WireError(
            f"camera_info has distortion model {message.distortion_model!r} with {D.size} "
            "coefficients",
            "use plumb_bob (4 or 5) or rational_polynomial (8), or publish rectified images",
        )
    if message.distortion_model not in _MODELS:
        raise WireError(
            f"camera_info has distortion model {message.distortion_model!r}",
            "use plumb_bob or rational_polynomial, or publish rectified images",
        )
    roi = message.roi
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    whole = region in ((0, 0, 0, 0), (0, 0, message.width, message.height))
    if max(message.binning_x, message.binning_y) > 1 or not whole:
        raise WireError(
            f"camera_info has binning {message.binning_x}x{message.binning_y} and region {region}",
            "publish intrinsics of exactly the image that is sent, with binning and ROI unset",
        )
    try:
        camera = CameraModel(K, message.width, message.height, D if D.any() else D[:0])
    except GeometryError as error:
        raise WireError(f"camera_info: {error.problem}", error.fix) from error
    return header, camera


def encode_camera_info(header: Header, camera: CameraModel) -> bytes:
    """A CameraInfo message with R = identity and P = [K | 0] (monocular)."""
    rational = camera.D.size == 8
    return cdr.serialize(
        CAMERA_INFO,
        cdr.message(
            CAMERA_INFO,
            header=header_to_message(header),
            width=camera.width,
            height=camera.height,
            distortion_model="rational_polynomial" if rational else "plumb_bob",
            d=np.array(camera.D if camera.D.size else np.zeros(5), dtype=np.float64),
            k=camera.K.reshape(9).astype(np.float64),
            r=np.eye(3).reshape(9),
            p=np.hstack([camera.K, np.zeros((3, 1))]).reshape(12),
        ),
    )
