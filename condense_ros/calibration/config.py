"""Parameters of the calibration watch."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter


@dataclass(frozen=True)
class CalibrationConfig:
    """How camera-LiDAR calibration is watched."""

    features: int = parameter(500, "corners followed from one key frame", low=50, high=20000)
    spacing_px: float = parameter(10.0, "least distance between corners", low=2, high=100)
    follow_frames: int = parameter(4, "images through which corners are followed", low=1, high=20)
    keyframe_step_m: float = parameter(2.5, "motion between key frames", low=0.0, high=100)
    keyframe_step_deg: float = parameter(3.0, "or rotation between key frames", low=0.0, high=180)
    max_keyframes: int = parameter(120, "newest key frames that are used", low=4, high=5000)
    min_flow_px: float = parameter(2.0, "corners that move less say nothing", low=0, high=100)
    max_depth_m: float = parameter(50.0, "farther surfaces are not used", low=1, high=500)
    sweeps: int = parameter(
        2, "sweeps before and after a key frame that give it depth", low=0, high=10
    )
    register_voxel_m: float = parameter(0.3, "spacing when sweeps are aligned", low=0.05, high=5)
    motion_rotation_deg: float = parameter(
        0.03, "how well sweeps tell the rotation between two images", low=1e-4, high=10
    )
    motion_translation_m: float = parameter(
        0.01, "how well sweeps tell the translation between two images", low=1e-4, high=10
    )
    edge_frames: int = parameter(
        24, "newest single frames used where motion does not show enough; 0: none", low=0, high=500
    )
    edge_period_s: float = parameter(0.4, "least time between them", low=0, high=60)
    iterations: int = parameter(8, "steps of Gauss-Newton at most", low=1, high=100)
    blocks: int = parameter(24, "groups of key frames whose spread gives the interval", low=4)
    model_rotation_deg: float = parameter(
        0.10, "error (sigma) of a rotation that more data do not lessen", low=0, high=5
    )
    model_translation_m: float = parameter(
        0.035, "error (sigma) of a translation that more data do not lessen", low=0, high=1
    )
    model_time_s: float = parameter(
        0.0015, "error (sigma) of the time offset that more data do not lessen", low=0, high=1
    )
    limit_rotation_deg: float = parameter(
        0.5, "a wider 95 % half interval makes a rotation unobservable", low=0.001, high=90
    )
    limit_translation_m: float = parameter(
        0.10, "a wider 95 % half interval makes a translation unobservable", low=0.001, high=10
    )
    limit_time_s: float = parameter(
        0.02, "a wider 95 % half interval makes the time offset unobservable", low=1e-5, high=1
    )
    tolerance_rotation_deg: float = parameter(
        0.25, "a rotation whose whole interval is farther off is called off", low=0, high=90
    )
    tolerance_translation_m: float = parameter(
        0.1, "a translation whose whole interval is farther off is called off", low=0, high=10
    )
    tolerance_time_s: float = parameter(
        0.01, "a time offset whose whole interval is farther off is called off", low=0, high=1
    )
