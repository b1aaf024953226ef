"""`clusters`: groups of superpixels that look alike. No weights, no download, no names.

The embedded default: an image network trains itself on the data's own images (stage 1 of recipe
janda), superpixels are described by its features, and k-means groups them.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2

from condense_ros.config import parameter
from condense_ros.errors import CondenseError, ConfigError, LabelError
from condense_ros.files import write_atomically
from condense_training.frames import FrameSource, spread
from condense_training.labels.features import HandmadeFeatures, NetworkFeatures, PieceFeatures
from condense_training.labels.images import DatasetImages, SourceImage
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.pixel_network import load_network, train_network
from condense_training.labels.protocols import LabelImage, check_finite
from condense_training.labels.superpixels import SlicConfig, superpixels

log = logging.getLogger(__name__)

Groups = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class ClustersConfig(SlicConfig):
    """How pieces are cut, described and grouped."""

    groups: int = parameter(32, "number of groups", low=2, high=255)
    features: str = parameter(
        "auto",
        "network (self-trained), handmade (colour, texture, place), or auto: the network where "
        "there is one or it can be trained, which needs a data set or bag",
    )
    network: str = parameter(
        "",
        "trained image network: network.safetensors of an earlier run, or a folder of "
        "`condense pretrain --recipe janda`; empty: train one",
    )
    preset: str = parameter("demo", "preset of recipe janda to train it by")
    network_steps: int = parameter(0, "steps to train it; 0: as the preset says", low=0)
    feature_size_px: int = parameter(
        192, "short side of the images for the network, pixels", low=32
    )
    fit_images: int = parameter(64, "frames that the groups are found in, evenly spread", low=1)
    fitted: str = parameter(
        "", "groups.npz of another label folder: its groups are used, so ids mean the same"
    )
    seed: int = parameter(0, "seed of training and grouping", low=0, high=2**31)


class ClustersLabeler:
    """Labels are group numbers; the confidence is 1 - d1 / d2 of the distances to the nearest and
    second nearest group centre, so 0 halfway between two groups.

    Args:
        groups: {"mean": (F,), "scale": (F,), "centres": (K, F)}.
    """

    def __init__(self, features: PieceFeatures, groups: Groups, slic: SlicConfig) -> None:
        self._features, self._groups, self._slic = features, groups, slic
        digest = hashlib.sha256()
        for name in sorted(groups):
            digest.update(name.encode() + np.ascontiguousarray(groups[name]).tobytes())
        self.identity: Mapping[str, Any] = {
            "features": dict(features.identity),
            "slic": asdict(slic),
            "groups": digest.hexdigest(),
        }
        # other groups are another ontology, though they have the same number
        number = digest.hexdigest()[:12]
        self.ontology = LabelOntology.groups(f"groups {number}", len(groups["centres"]))

    def label(self, image: SourceImage) -> LabelImage:
        """Labels of one image; every pixel belongs to a group."""
        pieces = superpixels(image.pixels, self._slic)
        rows = self._features(image.pixels, pieces)
        check_finite("features", rows)
        scaled = (rows - self._groups["mean"]) / self._groups["scale"]
        away = np.linalg.norm(scaled[:, None] - self._groups["centres"][None], axis=2)
        nearest = away.argmin(axis=1)
        first, second = np.partition(away, 1, axis=1)[:, :2].T
        sure = 1 - np.divide(first, second, out=np.ones_like(first), where=second > 0)
        return LabelImage(
            nearest.astype(np.uint8)[pieces],
            sure.astype(np.float32)[pieces],
            {"pieces": len(rows)},
        )


def build(config: ClustersConfig, context: LabelerContext) -> ClustersLabeler:
    """The labeler, after training and grouping where that has not been done.

    What is learned stays in `context.folder`/clusters: network.safetensors and groups.npz. Of
    several shards the first makes them while the others wait.

    Raises:
        ConfigError: an ontology was named (groups have none), or unusable settings.
        LabelError: the folder holds groups of other settings, or fewer pieces than groups.
        CheckpointError, TrainingError: the network cannot be loaded or trained.
    """
    if context.ontology is not None:
        raise ConfigError(
            "clusters have no names, so they cannot be put into an ontology",
            "leave --ontology out, or use another labeler",
        )
    folder = context.folder / "clusters"
    folder.mkdir(parents=True, exist_ok=True)
    slic = SlicConfig(**{field.name: getattr(config, field.name) for field in fields(SlicConfig)})
    with _locked(folder / "lock"):
        features = _features(config, context, folder)
        # where the images lie and what names they have does not matter
        fingerprint = {**asdict(config), "features": dict(features.identity), "network": ""}
        path = Path(config.fitted) if config.fitted else folder / "groups.npz"
        if not config.fitted and not path.exists():
            groups = _fit(config, context, features, slic)
            _save(path, groups, fingerprint)
        groups = _load(path, None if config.fitted else fingerprint, features)
    return ClustersLabeler(features, groups, slic)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _features(config: ClustersConfig, context: LabelerContext, folder: Path) -> PieceFeatures:
    kind, source = config.features, context.source
    if kind not in ("auto", "network", "handmade"):
        raise ConfigError(f"features={kind!r}", "use auto, network or handmade")
    if kind == "handmade":
        return HandmadeFeatures()
    # groups of another folder come with the network that they were found by
    home = Path(config.fitted).parent if config.fitted else folder
    path = Path(config.network) if config.network else home / "network.safetensors"
    if config.fitted and not path.exists():
        return HandmadeFeatures()
    if not config.network and not path.exists():
        if not isinstance(source, DatasetImages):
            if kind == "network":
                raise ConfigError(
                    "an image network learns from the frames of a data set or bag, and this is a "
                    "folder of pictures",
                    "name a trained one with -p network=FILE, or use -p features=handmade",
                )
            log.warning("%s is a folder of pictures: hand-made features are used", source.path)
            return HandmadeFeatures()
        stride, limit = source.selection
        train_network(
            FrameSource([source.path], stride=stride, limit=limit),
            folder / "network",
            path,
            preset=config.preset,
            settings={"pixel_steps": config.network_steps} if config.network_steps else {},
            seed=config.seed,
            device=context.device,
            progress=context.progress,
        )
    network, origin = load_network(path)
    return NetworkFeatures(network, origin, config.feature_size_px, context.device)


def _fit(
    config: ClustersConfig, context: LabelerContext, features: PieceFeatures, slic: SlicConfig
) -> Groups:
    """k-means over the standardised rows of images spread over the whole source."""
    rows = []
    for number in spread(len(context.source), config.fit_images):
        try:
            images = context.source.images(number)
        except (CondenseError, OSError, ValueError, EOFError):
            continue  # told where it is labelled
        rows += [features(one.pixels, superpixels(one.pixels, slic)) for one in images]
    values = np.concatenate(rows) if rows else np.zeros((0, 1))
    if len(np.unique(values, axis=0)) < config.groups:
        raise LabelError(
            f"{len(values)} superpixels cannot make {config.groups} groups",
            "give more images, or lower -p groups",
        )
    check_finite("features", values)
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    rng = np.random.default_rng(config.seed)
    centres, _ = kmeans2(
        (values - mean) / scale, config.groups, iter=100, minit="++", missing="warn", rng=rng
    )
    return {"mean": mean, "scale": scale, "centres": centres}


def _save(path: Path, groups: Groups, fingerprint: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    settings = np.array(json.dumps(fingerprint, sort_keys=True))
    np.savez(content, **groups, settings=settings)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def _load(path: Path, fingerprint: Mapping[str, Any] | None, features: PieceFeatures) -> Groups:
    try:
        with np.load(path) as file:
            groups = {name: np.asarray(file[name]) for name in ("mean", "scale", "centres")}
            then = json.loads(str(file["settings"]))
    except (OSError, KeyError, ValueError) as error:
        raise LabelError(
            f"{path} holds no groups ({error})", "remove it, or name another with -p fitted"
        ) from None
    now = dict(fingerprint or {"features": dict(features.identity)})
    changed = [key for key in now if then.get(key) != now[key]]
    if changed:
        what = ", ".join(f"{key} {then.get(key)} -> {now[key]}" for key in changed)
        raise LabelError(
            f"{path} was made with other settings ({what})",
            "use another --out, or the same settings",
        )
    return groups
