"""`convert_file`: a published weight file as a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from condense_ros.errors import CheckpointError
from condense_ros.models.backbone import preset as backbone_preset
from condense_ros.models.checkpoint import save_checkpoint
from condense_ros.models.configs import BackboneConfig
from condense_ros.models.convert.inputs import FeatureMap
from condense_ros.models.convert.report import Conversion
from condense_ros.models.convert.state import convert_state, source_architecture
from condense_ros.models.convert.weights import WeightFile, read_weights
from condense_ros.models.inputs import InputSpec


def convert_file(
    path: Path | str,
    out: Path | str,
    input: InputSpec,
    recipe: str,
    *,
    preset: str | None = None,
    source: str = "auto",
    prefix: str | None = None,
    minkowski_order: str = "auto",
    spconv_version: str = "auto",
    feature_maps: Mapping[str, FeatureMap] | None = None,
) -> Conversion:
    """Converts PATH and writes the checkpoint OUT with OUT.sha256.

    Widths, blocks and stem are read off the file. What it cannot say has to be given: voxel size
    and features of the input, and how it was pretrained.

    Args:
        input: what the weights were trained with.
        recipe: name of how they were pretrained ("slidr", "pri3d", ...).
        preset: name of a preset whose widths and blocks the file must have, or None.
        source, prefix, minkowski_order, spconv_version, feature_maps: see `convert_state`.

    Raises:
        CheckpointError: an unreadable file, weights of another network or architecture.
        ConfigError: no such preset, or features that do not fit the weights.
        StorageFull: no room on the device.
    """
    if not recipe.strip():
        raise CheckpointError(
            "a checkpoint without a word on how it was pretrained",
            "name the recipe of the weights: slidr, olivine, pri3d, ...",
        )
    weights = read_weights(path)
    architecture = source_architecture(weights.state, source, prefix)
    if preset is not None:
        wanted = backbone_preset(preset, input)
        if not isinstance(wanted, BackboneConfig):
            raise CheckpointError(
                f"{path} holds a sparse U-Net, {preset} is a {wanted.architecture}",
                "name the preset it is, or none: the file has widths and blocks",
            )
        for name in ("widths", "blocks"):
            have, want = getattr(architecture, name), getattr(wanted, name)
            if have != want:
                raise CheckpointError(
                    f"{path} is no {preset}: {name} {have} instead of {want}",
                    "name the preset it is, or none: the file has widths and blocks",
                )
    conversion = convert_state(
        weights.state,
        architecture.config(input),
        source=source,
        prefix=prefix,
        minkowski_order=minkowski_order,
        spconv_version=spconv_version,
        feature_maps=feature_maps,
    )
    report = conversion.report
    report = dataclasses.replace(report, notes=(*report.notes, *_notes(weights, input)))
    conversion = dataclasses.replace(conversion, report=report)
    origin = {
        "file": Path(path).name,
        "sha256": weights.sha256,
        "entry": weights.container,
        "feature_maps": {
            name: {"scale": value.scale, "offset": value.offset}
            for name, value in (feature_maps or {}).items()
        },
    }
    save_checkpoint(out, conversion.checkpoint(recipe, origin))
    return conversion


def _notes(weights: WeightFile, input: InputSpec) -> list[str]:
    """What else the file holds, and settings (by SLidR's names) that contradict what was given."""
    notes = []
    size = weights.config.get("voxel_size")
    if isinstance(size, float) and abs(size - input.voxel_size_m) > 1e-9:
        notes.append(f"the file says that its voxels were {size}, not {input.voxel_size_m} m")
    if weights.config.get("cylindrical_coordinates") is True:
        notes.append(
            "the file says that its voxels were cylindrical: give the backbone such voxels"
        )
    if weights.beside:
        notes.append(f"entries of the file that were not converted: {', '.join(weights.beside)}")
    return notes
