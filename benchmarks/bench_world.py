"""Whether simulated worlds are worth learning in: neither trivial nor impossible.

    python benchmarks/bench_world.py [--kinds town] [--parts colours places network]
        [--cache DIR] [--steps 2500] [--json F]

colours: linear probes (multinomial logistic regression, classes weighted by their frequency) that
         see one pixel's RGB, or one point's height and intensity, and nothing around it; trained
         and tested on worlds of the other split. High figures would mean a world that needs no
         learning.
places:  how often Scan Context (Kim and Kim, IROS 2018), compared in full over all headings, and
         this project's ring_height find a place within 5 m first: the same drive again in another
         session, and driven the other way. Places are stored every 3 m in session 0.
network: a small sparse U-Net learns from the labels of training worlds (recipe `supervised`) and is
         tested in test worlds: seeds and assets both unseen. Low figures would mean classes that no
         sensor can tell apart.

Sweeps are rendered once into the cache and kept there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense_ros import sim
from condense_ros.datasets import open_dataset
from condense_ros.frame import IGNORE, Frame
from condense_ros.geometry import Array
from condense_ros.models import load_checkpoint
from condense_ros.ontology import Ontology
from condense_ros.places.descriptors import ring_height
from condense_ros.places.scan_context import retrieve, scan_context
from condense_ros.sim.scenery import EPOCH_NS
from condense_training import PretrainConfig, pretrain
from condense_training.evaluate.linear import fit_linear
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.segmentation import evaluate_segmentation
from condense_training.threads import cpu_threads
from condense_training.trainer import TrainerConfig

TRAIN_SEEDS, TEST_SEEDS = (1, 2, 3, 4), (51, 52)
#: small pictures: a pixel's colour does not depend on how many there are
RIG = sim.Rig((sim.CameraSpec(width=160, height=96, fx=105, fy=105, cx=79.5, cy=47.5),))
#: sweeps of one world
FRAMES = 200
#: mean speed and metres driven between two sweeps
DRIVEN = {"town": (7.0, 8.0), "building": (1.0, 1.0), "terrain": (3.0, 4.0)}


@lru_cache(maxsize=1)
def world_of(kind: str, seed: int, split: str, session: int = 0) -> Any:
    """A world; the last one is kept, because building one takes seconds."""
    return sim.build_world(kind, seed, session=session, split=split)


def folder(cache: Path, kind: str, seed: int, split: str) -> Path:
    """Sweeps of one world, spread over a long drive; rendered if the cache lacks them."""
    speed, spacing = DRIVEN[kind]
    config = sim.SimulationConfig(
        kind=kind,
        world_seed=seed,
        split=split,
        drive_seed=seed,
        duration_s=FRAMES * spacing / speed,
        rate_hz=speed / spacing,
        images=False,
        rig=sim.Rig(()),
        workers=1,
    )
    return sim.generate(cache / f"{kind}_{split}_{seed}", config)


def pixels(world: Any, frames: list[Frame], per_frame: int, seed: int) -> tuple[Tensor, Tensor]:
    """RGB (n, 3) of random pixels and their classes; sky left out."""
    simulator, rng = sim.Simulator(world, RIG), np.random.default_rng(seed)
    colours, labels = [], []
    for frame in frames:
        assert frame.T_world_lidar is not None
        T_world_base = frame.T_world_lidar @ np.linalg.inv(RIG.lidar.T_base_lidar)
        picture = simulator.frame(T_world_base, frame.stamp_ns).images[0].pixels.reshape(-1, 3)
        truth = simulator.truth(T_world_base, frame.stamp_ns)["front"].semantic.ravel()
        picked = rng.permutation(np.nonzero(truth != IGNORE)[0])[:per_frame]
        colours.append(picture[picked] / 255.0)
        labels.append(truth[picked].astype(np.int64))
    return torch.from_numpy(np.concatenate(colours)), torch.from_numpy(np.concatenate(labels))


def points(frames: list[Frame], per_frame: int, seed: int) -> tuple[Tensor, Tensor]:
    """Height and intensity (n, 2) of random points and their classes."""
    rng, values, labels = np.random.default_rng(seed), [], []
    for frame in frames:
        assert frame.labels is not None
        assert frame.cloud.intensity is not None
        picked = rng.permutation(np.nonzero(frame.labels != IGNORE)[0])[:per_frame]
        both = [frame.cloud.xyz[picked, 2], frame.cloud.intensity[picked]]
        values.append(np.stack(both, axis=1).astype(np.float64))
        labels.append(frame.labels[picked].astype(np.int64))
    return torch.from_numpy(np.concatenate(values)), torch.from_numpy(np.concatenate(labels))


def probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> float:
    """mIoU of a linear classifier of single pixels or points.

    The better of two: all samples alike, or as many of each class; the second is what a mean over
    classes rewards.
    """
    best = 0.0
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(train[1], minlength=classes).double()
    for weights in (torch.ones(classes), 1 / counts.clamp(min=1)):
        drawn = torch.multinomial(
            weights[train[1]].float(), min(60_000, len(train[1])), True, generator=generator
        )
        classifier = fit_linear(train[0][drawn].float(), train[1][drawn], classes, l2=1e-5)
        confusion = Confusion(classes)
        confusion.add(test[1].numpy(), classifier(test[0].float()).argmax(1).numpy())
        best = max(best, confusion.miou())
    return best


def separability(cache: Path, kind: str) -> dict[str, Any]:
    """Linear probes of single pixels and single points, and how often each class is hit."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    ontology: Ontology | None = None
    for split, seeds in (("train", TRAIN_SEEDS[:2]), ("test", TEST_SEEDS[:1])):
        rgb, low = [], []
        for seed in seeds:
            data = open_dataset(folder(cache, kind, seed, split))
            ontology = data.classes
            frames = [data[i] for i in range(0, len(data), 4)]
            world = world_of(kind, seed, split)
            rgb.append(pixels(world, frames, 600, seed))
            low.append(points(frames, 600, seed))
        for name, parts in (("rgb", rgb), ("height_intensity", low)):
            joined = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
            found.setdefault(name, []).append(joined)
    assert ontology is not None
    classes = len(ontology)
    with cpu_threads():
        result: dict[str, Any] = {
            f"probe_{name}_miou": probe(train, test, classes)
            for name, (train, test) in found.items()
        }
    counts = torch.bincount(found["height_intensity"][0][1], minlength=classes).double()
    share = counts / counts.sum()
    result["share_of_points"] = {
        ontology.names[i]: float(share[i]) for i in share.argsort(descending=True).tolist()
    }
    return result


def ambiguity(kind: str, seed: int) -> dict[str, Any]:
    """Recall at 1 of two descriptors, for another session and for the other way.

    A place counts within 5 m, indoors within 2 m; questions with no such place are not asked.
    """
    world, later = world_of(kind, seed, "train"), world_of(kind, seed, "train", 1)
    speed, spacing = DRIVEN[kind]
    # a place every 3 m (indoors 1 m), a question every third place, between two of them
    step = min(3.0, spacing)
    duration = 400 * step / speed
    poses = sim.drive(world, duration, 2 * speed / step, seed=seed)
    backwards = sim.drive(world, duration, 2 * speed / step, seed=seed, reverse=True)
    stored, asked, back = poses[::2], poses[1::6], backwards[1::6]
    first, second = sim.Simulator(world, sim.Rig(())), sim.Simulator(later, sim.Rig(()))

    def look(simulator: sim.Simulator, at: Array, stamp: int) -> list[Array]:
        return [
            simulator.frame(T, stamp + i * 10**8, images=False).cloud.xyz for i, T in enumerate(at)
        ]

    places = look(first, stored, EPOCH_NS)
    contexts = np.stack([scan_context(xyz) for xyz in places])
    heights = np.stack([ring_height(xyz) for xyz in places])
    spread = heights.std(axis=0) + 1e-6
    near = 2.0 if kind == "building" else 5.0
    result: dict[str, Any] = {"places": len(stored), "near_m": near}
    for name, simulator, at in (
        ("second session", second, asked),
        ("other way", first, back),
        ("second session, other way", second, back),
    ):
        hits: dict[str, list[bool]] = {"scan_context": [], "ring_height": []}
        at = at[[bool((_gaps(stored, T) < near).any()) for T in at]]
        for T, xyz in zip(at, look(simulator, at, EPOCH_NS + 10**15), strict=True):
            best = {
                "scan_context": int(retrieve(scan_context(xyz), contexts, 1)[0]),
                "ring_height": int((((heights - ring_height(xyz)) / spread) ** 2).sum(1).argmin()),
            }
            for descriptor, row in best.items():
                hits[descriptor].append(bool(_gaps(stored[row], T) < near))
        shares = {key: float(np.mean(values)) for key, values in hits.items()}
        result[name] = {"questions": len(at), **shares}
    return result


def _gaps(stored: Array, T: Array) -> Any:
    return np.linalg.norm(stored[..., :3, 3] - T[:3, 3], axis=-1)


def learnability(cache: Path, kind: str, steps: int, settings: dict[str, Any]) -> dict[str, Any]:
    """mIoU in test worlds of a small network trained with labels in training worlds."""
    train = [folder(cache, kind, seed, "train") for seed in TRAIN_SEEDS]
    test = [open_dataset(folder(cache, kind, seed, "test")) for seed in TEST_SEEDS]
    classes = test[0].classes
    assert classes is not None
    config = PretrainConfig(
        recipe="supervised",
        preset="demo",
        settings={"steps": steps, "classes": len(classes), **settings},
        trainer=TrainerConfig(progress=True),
    )
    started = time.perf_counter()
    path = pretrain(train, cache / f"network_{kind}_{steps}", config)
    seconds = time.perf_counter() - started
    checkpoint = load_checkpoint(path)
    frames = (data[i] for data in test for i in range(0, len(data), 2))
    confusion = evaluate_segmentation(checkpoint, frames)
    iou = confusion.iou()
    return {
        "steps": steps,
        "seconds_now": seconds,
        "miou": confusion.miou(),
        "accuracy": confusion.accuracy(),
        "iou": {
            name: float(value)
            for name, value in zip(classes.names, iou, strict=True)
            if np.isfinite(value)
        },
        "confusion": confusion.counts.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kinds", nargs="+", default=["town"])
    parser.add_argument("--parts", nargs="+", default=["colours", "places", "network"])
    parser.add_argument("--cache", type=Path, help="keep rendered worlds and the network here")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--set", type=json.loads, default={}, help="recipe settings, as JSON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        for kind in options.kinds:
            found = results[kind] = {}
            if "colours" in options.parts:
                found["separability"] = separability(cache, kind)
                print(kind, json.dumps(found["separability"], indent=1), flush=True)
            if "places" in options.parts:
                found["places"] = ambiguity(kind, TRAIN_SEEDS[0])
                print(kind, json.dumps(found["places"], indent=1), flush=True)
            if "network" in options.parts:
                found["network"] = learnability(cache, kind, options.steps, options.set)
                shown = {k: v for k, v in found["network"].items() if k != "confusion"}
                print(kind, json.dumps(shown, indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
