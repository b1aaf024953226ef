"""Writes docs/parameters.md from the parameter dataclasses, so that the page cannot go stale.

python tools/write_parameter_pages.py            writes the page
python tools/write_parameter_pages.py --check    exits 1 where the page is out of date
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from condense_ros.cli.nodes import NODE_PARAMETERS
from condense_ros.config import describe

PAGE = Path(__file__).parents[1] / "docs" / "parameters.md"

#: heading -> (module, class, prefix of the parameter names)
SECTIONS: dict[str, list[tuple[str, str, str]]] = {
    "capture_node (`condense record -p NAME=VALUE`)": list(NODE_PARAMETERS["capture_node"]),
    "replay_node (`condense replay PATH -p NAME=VALUE`)": list(NODE_PARAMETERS["replay_node"]),
    "perception_node": [
        ("condense_ros.nodes.perception_parameters", "PerceptionParameters", ""),
    ],
    "`condense label`": [("condense_training.labels.run", "LabelConfig", "")],
    "Labeler clusters (`condense label -p NAME=VALUE`)": [
        ("condense_training.labels.labelers.clusters", "ClustersConfig", ""),
    ],
    "Labeler grounded_sam (`condense label -p NAME=VALUE`)": [
        ("condense_training.labels.labelers.grounded_sam", "GroundedSamConfig", ""),
    ],
    "Labeler sam3 (`condense label -p NAME=VALUE`)": [
        ("condense_training.labels.labelers.sam3", "Sam3Config", ""),
    ],
    "Labeler semseg (`condense label -p NAME=VALUE`)": [
        ("condense_training.labels.labelers.semseg", "SemsegConfig", ""),
    ],
    "Labeler segment_anything (`condense label -p NAME=VALUE`)": [
        ("condense_training.labels.labelers.segment_anything", "SegmentAnythingConfig", ""),
    ],
    "Labeler precomputed (`condense label -p NAME=VALUE`)": [
        ("condense_training.labels.labelers.precomputed", "PrecomputedConfig", ""),
    ],
    "Folders of several drives (`FOLDER?name=value`, `condense.yaml`)": [
        ("condense_ros.datasets.options", "DataOptions", "")
    ],
    "`condense pretrain`": [
        ("condense_training.pretraining", "PretrainConfig", ""),
        ("condense_training.trainer", "TrainerConfig", "trainer."),
    ],
    "Recipe janda (`settings` of `condense pretrain`; defaults are the paper's)": [
        ("condense_training.recipes.janda", "JandaConfig", ""),
    ],
    "Recipe olivine (the same; label images, or labels of points)": [
        ("condense_training.recipes.olivine_config", "OlivineConfig", ""),
    ],
    "Recipe supervised (the same; needs labels)": [
        ("condense_training.recipes.supervised", "SupervisedConfig", "")
    ],
    "`condense probe`": [("condense_training.evaluate.probe", "ProbeConfig", "")],
    "`condense eval robustness`": [
        ("condense_training.evaluate.robustness", "RobustnessConfig", "")
    ],
    "`condense sim generate`": [
        ("condense_ros.sim.folders.plan", "SimulationConfig", ""),
        ("condense_ros.sim.driving.motion", "DriveConfig", "drive."),
        ("condense_ros.sim.driving.odometry", "OdometryConfig", "odometry."),
        ("condense_ros.sim.driving.odometry", "ImuConfig", "imu."),
        ("condense_ros.sim.folders.faults", "Faults", "faults."),
    ],
    "Simulated LiDAR (`rig.lidar`)": [("condense_ros.sim.sensors.rig", "LidarSpec", "")],
    "Simulated camera (`rig.cameras`)": [("condense_ros.sim.sensors.rig", "CameraSpec", "")],
    "Simulated town (`layout`)": [("condense_ros.sim.town.world", "WorldConfig", "")],
    "Simulated building (`layout`)": [("condense_ros.sim.indoors.building", "BuildingConfig", "")],
    "Simulated open country (`layout`)": [
        ("condense_ros.sim.open_country.terrain", "TerrainConfig", "")
    ],
    "`condense calib check`, `condense calib refine`": [
        ("condense_ros.calibration", "CalibrationConfig", "")
    ],
    "Relocalisation": [("condense_ros.places.relocalise", "RelocaliseConfig", "")],
}


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def page() -> str:
    """The page as it should be."""
    lines = [
        "# Parameters",
        "",
        "Made from the code by `python tools/write_parameter_pages.py`. Units are in the names.",
        "Values out of range are refused with the reason.",
    ]
    for heading, sources in SECTIONS.items():
        lines += [
            "",
            f"## {heading}",
            "",
            "| name | type | default | meaning |",
            "|---|---|---|---|",
        ]
        for module, name, prefix in sources:
            for parameter, kind, default, meaning in describe(getattr(import_module(module), name)):
                shown = "" if "(" in str(default) and "Config" in str(default) else repr(default)
                cells = (f"`{prefix}{parameter}`", kind, f"`{shown}`" if shown else "", meaning)
                lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != text:
            print(f"{PAGE} is out of date: run python tools/write_parameter_pages.py")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
