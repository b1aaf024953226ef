"""`label`: images in, label images out; killed and started again, it goes on."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import condense_ros
from condense_ros.config import build, parameter
from condense_ros.errors import (
    CheckpointError,
    CondenseError,
    ConfigError,
    EnvironmentProblem,
    LabelError,
    StorageFull,
)
from condense_ros.files import write_json
from condense_ros.frame import IGNORE
from condense_training.labels.images import ImageSource, SourceImage, open_images
from condense_training.labels.labelers import LabelerContext, find_labeler
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import DenseLabeler, LabelImage
from condense_training.labels.shards import Shard, run_on_ray
from condense_training.labels.store import FORMAT, LabelHeader, LabelStore, read_record

#: packages of which the version may matter
_PACKAGES = ("numpy", "opencv-python-headless", "pillow", "torch", "transformers")
#: errors that no other image would be spared
_FATAL = (CheckpointError, ConfigError, EnvironmentProblem, StorageFull)


@dataclass(frozen=True)
class LabelConfig:
    """What labels which images."""

    labeler: str = parameter(
        "clusters",
        "clusters, grounded_sam, sam3, semseg, segment_anything or precomputed",
    )
    ontology: str = parameter(
        "",
        "nuscenes_16, semantickitti_19, olivine_13 or a YAML file; empty: nuscenes_16, or groups "
        "without names where the labeler makes such",
    )
    settings: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "the labeler's own parameters"}
    )
    stride: int = parameter(1, "label every n-th frame or file", low=1)
    limit: int | None = parameter(None, "label at most so many frames or files", low=1)
    device: str = parameter("cpu", "torch device")
    threads: int = parameter(
        0, "CPU threads per operator; 0: OMP_NUM_THREADS, or else half of the cores", low=0
    )
    max_failures: int = parameter(100, "failed frames or files after which the run stops", low=0)
    reuse: tuple[str, ...] = parameter(
        (), "folders of labels from which finished ones are taken over"
    )


@dataclass
class LabelReport:
    """What a run, or one shard of it, did.

    Attributes:
        out: folder of the labels.
        images: labelled or found labelled.
        made, adopted: made now; taken over from another folder. The rest was there.
        failed: {"image": name, "reason": why} of what could not be labelled.
        pixels: pixels by class name, "no class" for the rest.
        seconds: from the first image on.
        names: (image name, key) of every image, in order.
    """

    out: Path
    images: int = 0
    made: int = 0
    adopted: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    pixels: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    names: list[tuple[str, str]] = field(default_factory=list)


def label(
    data: Path | str,
    out: Path | str,
    config: LabelConfig | None = None,
    *,
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
    show_training: bool = False,
) -> LabelReport:
    """Labels every image of `data`, or of one shard of it, into the folder `out`.

    Images that are labelled already are left alone, whatever stopped the run before. An image that
    cannot be read or labelled is listed in `out`/errors.json with the reason, and tried again by
    the next run.

    Args:
        data: a data set, a bag, or a folder of pictures.
        out: folder of labels, see `labels.store`.
        shard: which part; None for all.
        progress: called with (frames or files done, of this shard).
        show_training: draw the progress of an image network's training on the terminal.

    Raises:
        ConfigError, CheckpointError, EnvironmentProblem: the labeler cannot be built.
        DatasetError: no images there.
        LabelError: `out` holds other labels, or too many images failed.
        StorageFull: no room; what was written is intact.
    """
    from condense_training.threads import cpu_threads

    config, shard, out = config or LabelConfig(), shard or Shard(), Path(out)
    source = open_images(data, stride=config.stride, limit=config.limit)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(cpu_threads(config.threads))
        labeler = make_labeler(source, out, config, show_training=show_training)
        if hasattr(labeler, "close"):
            stack.callback(labeler.close)
        header = LabelHeader(config.labeler, labeler.identity, labeler.ontology)
        store = LabelStore(out, header)
        return _Run(labeler, store, config, shard).all(source, progress)


def make_labeler(
    source: ImageSource, folder: Path, config: LabelConfig, *, show_training: bool = False
) -> DenseLabeler:
    """The labeler that a config names.

    Raises:
        ConfigError, CheckpointError, EnvironmentProblem, LabelError, TrainingError: as it says.
    """
    entry = find_labeler(config.labeler)
    settings: Any = build(entry.config_class(), config.settings)
    ontology = LabelOntology.load(config.ontology) if config.ontology else None
    context = LabelerContext(source, folder, config.device, ontology, show_training)
    return entry.build(settings, context)


class _Run:
    """One pass over a shard: read ahead, label, store, account."""

    def __init__(
        self, labeler: DenseLabeler, store: LabelStore, config: LabelConfig, shard: Shard
    ) -> None:
        self._labeler, self._store, self._config, self._shard = labeler, store, config, shard
        self._reuse = [Path(folder) for folder in config.reuse]
        self._report = LabelReport(store.folder)
        self._errors = store.folder / f"errors{shard.suffix()}.json"

    def all(self, source: ImageSource, progress: Callable[[int, int], None] | None) -> LabelReport:
        """Every entry of the shard."""
        rows = self._shard.rows(len(source))
        started = time.monotonic()
        self._errors.unlink(missing_ok=True)
        try:
            for done, (row, images) in enumerate(_read_ahead(source, rows), start=1):
                if isinstance(images, Exception):
                    self._fail(source.describe(row), images)
                else:
                    for image in images:
                        self._one(image)
                if progress:
                    progress(done, len(rows))
        finally:
            self._report.seconds = time.monotonic() - started
        return self._report

    def _one(self, image: SourceImage) -> None:
        header, store = self._store.header, self._store
        key = header.key(image.sha256)
        try:
            if not store.has(key):
                if any(store.adopt(key, folder) for folder in self._reuse):
                    self._report.adopted += 1
                else:
                    self._make(image, key)
        except _FATAL:
            raise
        except (CondenseError, ValueError, RuntimeError) as error:  # torch raises the latter
            self._fail(image.name, error)
            return
        store.name(image.name, key)
        self._report.images += 1
        self._report.names.append((image.name, key))
        self._report.pixels.update(read_record(store.path(key, ".json"))["pixels"])

    def _make(self, image: SourceImage, key: str) -> None:
        started = time.perf_counter()
        made = self._labeler.label(image)
        if made.labels.shape != image.pixels.shape[:2]:
            raise LabelError(
                f"labels of {image.name} are {made.labels.shape}, the image "
                f"{image.pixels.shape[:2]}",
                "a labeler keeps the size of the image",
            )
        seconds = time.perf_counter() - started
        self._store.put(key, made, self._record(image, made, seconds))
        self._report.made += 1

    def _record(self, image: SourceImage, made: LabelImage, seconds: float) -> dict[str, Any]:
        header, height_width = self._store.header, image.pixels.shape[:2]
        return {
            "format": FORMAT,
            "labeler": header.labeler,
            "labeler_hash": header.labeler_hash,
            "settings": {name: _plain(value) for name, value in self._config.settings.items()},
            "ontology": header.ontology.name,
            "ontology_hash": header.ontology.hash(),
            "image": {
                "sha256": image.sha256,
                "width": int(height_width[1]),
                "height": int(height_width[0]),
            },
            "pixels": class_pixels(made, header.ontology),
            "mean_confidence": _mean_confidence(made),
            "details": dict(made.details),
            "device": self._config.device,
            "seconds": round(seconds, 4),
            "versions": versions(),
        }

    def _fail(self, name: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._report.failed.append({"image": name, "reason": reason})
        write_json(self._errors, self._report.failed)
        if len(self._report.failed) > self._config.max_failures:
            raise LabelError(
                f"{len(self._report.failed)} images cannot be labelled, the last being {name}: "
                f"{reason}",
                f"see {self._errors}; repair the data, or allow more with --max-failures",
            ) from error


def _read_ahead(
    source: ImageSource, rows: range
) -> Iterator[tuple[int, list[SourceImage] | Exception]]:
    """Entries in order, the next one read and hashed while one is labelled."""

    def read(row: int) -> list[SourceImage] | Exception:
        try:
            images = source.images(row)
            for image in images:
                _ = image.sha256
            return images
        except _FATAL:
            raise
        except (CondenseError, OSError, ValueError, EOFError) as error:
            return error

    with ThreadPoolExecutor(1, thread_name_prefix="image") as pool:
        waiting = [pool.submit(read, row) for row in rows[:1]]
        for place, row in enumerate(rows):
            images = waiting.pop().result()
            waiting += [pool.submit(read, following) for following in rows[place + 1 : place + 2]]
            yield row, images


def class_pixels(made: LabelImage, ontology: LabelOntology) -> dict[str, int]:
    """Pixels by class name, those without a class as "no class"; classes without pixels left
    out."""
    counts = np.bincount(made.labels.ravel(), minlength=256)
    named = {one.name: int(count) for one, count in zip(ontology.classes, counts, strict=False)}
    named["no class"] = int(counts[IGNORE])
    return {name: count for name, count in named.items() if count}


def _mean_confidence(made: LabelImage) -> float:
    labelled = made.labels != IGNORE
    return round(float(made.confidence[labelled].mean()), 4) if labelled.any() else 0.0


def versions() -> dict[str, str]:
    """Of this project, Python and the packages that labels may depend on."""
    found = {"condense_ros": condense_ros.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def label_on_ray(
    data: Path | str,
    out: Path | str,
    config: LabelConfig,
    shards: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LabelReport:
    """`label` in `shards` tasks of a Ray cluster; data and out must be seen by all its machines.

    Raises:
        EnvironmentProblem: ray is not installed.
        CondenseError: as `label`.
    """
    gpus = 1.0 if config.device.startswith("cuda") else 0.0
    work = partial(_shard_of, str(Path(data).resolve()), str(Path(out).resolve()), asdict(config))
    return merge(run_on_ray(work, shards, gpus=gpus, done=progress), Path(out))


def _shard_of(data: str, out: str, config: Mapping[str, Any], shard: Shard) -> LabelReport:
    return label(data, out, LabelConfig(**config), shard=shard)


def merge(reports: list[LabelReport], out: Path) -> LabelReport:
    """The sum of all shards' reports."""
    total = LabelReport(out)
    for report in reports:
        total.images += report.images
        total.made += report.made
        total.adopted += report.adopted
        total.failed += report.failed
        total.pixels.update(report.pixels)
        total.seconds = max(total.seconds, report.seconds)
        total.names += report.names
    total.names.sort()
    return total
