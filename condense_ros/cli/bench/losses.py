"""How fast losses and samplers of pretraining are, beside the matrix products they cannot avoid.

A contrast over n pairs multiplies three n x n matrices: logits, and the gradients of both sides. A
batch has 100,000 pairs of 17 classes; the contrasts look at 4096 of them (n), with 64 channels.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.cli.bench.codecs import milliseconds
from condense_training.losses import (
    VmfStatistics,
    class_contrast,
    feature_regression,
    info_nce,
    log_vmf_normaliser,
    superpixel_contrast,
    vmf_nll,
)
from condense_training.sampling import STRATEGIES, sample_pairs
from condense_training.threads import cpu_threads

CLASSES, SEGMENTS, TEMPERATURE = 17, 600, 0.07
#: name -> largest multiple of the bare matrix products
LIMITS = {"InfoNCE": 3.0, "class contrast": 3.0}
PRODUCTS = "bare matrix products"
Job = Callable[[], object]


def _data(pairs: int, drawn: int, channels: int, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def rows(n: int) -> Tensor:
        unit = functional.normalize(torch.randn(n, channels, generator=generator), dim=1)
        return unit.to(device).requires_grad_()

    # dense near the sensor, and a class list with a long tail, as in a street
    distance = 2 + 60 * torch.rand(pairs, generator=generator) ** 2
    chances = 0.6 ** torch.arange(CLASSES)
    labels = torch.multinomial(chances, pairs, replacement=True, generator=generator)
    segments = torch.randint(0, SEGMENTS, (pairs,), generator=generator)
    return {
        "q": rows(drawn),
        "k": rows(drawn),
        "all": rows(pairs),
        "pixels": rows(pairs),
        "distance": distance.to(device),
        "labels": labels.to(device),
        "segments": segments.to(device),
    }


def _backward(loss: Callable[[], Tensor], *inputs: Tensor) -> Job:
    def job() -> None:
        for tensor in inputs:
            tensor.grad = None
        loss().backward()

    return job


def jobs(pairs: int, drawn: int, channels: int, device: str) -> dict[str, dict[str, Job]]:
    """What is measured: losses over the drawn pairs, losses over all, samplers."""
    d = _data(pairs, drawn, channels, device)
    q, k, everything = d["q"], d["k"], d["all"]
    labels = d["labels"][:drawn]
    logits = torch.empty(drawn, drawn, device=device)
    statistics = VmfStatistics(CLASSES, channels).to(device)
    for _ in range(2):
        statistics.update(everything, d["labels"])
    classes = statistics.distributions()
    kappa = torch.linspace(0, 100, CLASSES, device=device)

    def products() -> None:
        with torch.no_grad():
            torch.mm(q, k.T, out=logits)
            logits @ k
            logits.T @ q

    def plain() -> Tensor:
        """The loss as libraries have it: all logits, cross-entropy, autograd."""
        target = torch.arange(drawn, device=device)
        return functional.cross_entropy(q @ k.T / TEMPERATURE, target)

    def regression() -> Tensor:
        return feature_regression(q, k)

    of_drawn = {
        PRODUCTS: products,
        "InfoNCE": _backward(lambda: info_nce(q, k, temperature=TEMPERATURE), q, k),
        "class contrast": _backward(
            lambda: class_contrast(q, k, labels, temperature=TEMPERATURE), q, k
        ),
        "InfoNCE by cross_entropy": _backward(plain, q, k),
        "feature regression": _backward(regression, q),
    }
    of_all = {
        "likelihood of classes": _backward(
            lambda: vmf_nll(everything, d["labels"], classes), everything
        ),
        "class statistics: update": lambda: statistics.update(everything, d["labels"]),
        "class statistics: distributions": statistics.distributions,
        "log normaliser": lambda: log_vmf_normaliser(kappa, channels),
        "superpixel contrast": _backward(
            lambda: superpixel_contrast(
                everything, d["segments"], d["pixels"], d["segments"], temperature=TEMPERATURE
            ),
            everything,
            d["pixels"],
        ),
    }

    def sampler(strategy: str) -> Job:
        return lambda: sample_pairs(strategy, drawn, d["distance"], d["labels"], ignored=0)

    samplers = {f"sampling: {strategy}": sampler(strategy) for strategy in STRATEGIES}
    return {"drawn pairs": of_drawn, "all pairs": of_all, "samplers": samplers}


def _memory(line: str) -> int | None:
    """Bytes of a line of /proc/self/status."""
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) * 1024
    return None


def extra_memory_mib(job: Job, device: str) -> float | None:
    """Memory that a job needs at its highest beside what was there before; None where neither
    CUDA nor Linux counts it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        library = ctypes.CDLL(ctypes.util.find_library("c"))
        library.malloc_trim(0)  # freed memory of earlier jobs would hide this one's
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before_rss = _memory("VmRSS:")
        job()
        peak = _memory("VmHWM:")
    except (OSError, AttributeError):
        return None
    return None if before_rss is None or peak is None else max(0, peak - before_rss) / 2**20


def measure(
    seconds: float = 1.0,
    *,
    pairs: int = 100_000,
    drawn: int = 4096,
    channels: int = 64,
    device: str = "cpu",
    threads: int = 0,
) -> dict[str, Any]:
    """All figures, `seconds` per job, backward passes included.

    Args:
        pairs: of a batch.
        drawn: of these, by the contrasts.
        channels: of features.
        threads: as of `cpu_threads`.
    """
    with cpu_threads(threads):
        figures: dict[str, dict[str, Any]] = {}
        used = torch.get_num_threads()
        for group, members in jobs(pairs, drawn, channels, device).items():
            figures[group] = {}
            for name, job in members.items():
                timed = job if device == "cpu" else _synchronised(job, device)
                times = milliseconds(timed, seconds)
                figures[group][name] = {**times, "memory_mib": extra_memory_mib(job, device)}
    drawn_figures = figures["drawn pairs"]
    # the fastest runs: what else the machine does only ever adds time
    bare = drawn_figures[PRODUCTS]["fastest_ms"]
    return {
        "torch": torch.__version__,
        "device": device,
        "threads": used,
        "pairs": pairs,
        "drawn": drawn,
        "channels": channels,
        "figures": figures,
        "times_bare": {name: drawn_figures[name]["fastest_ms"] / bare for name in drawn_figures},
        "limits_times_bare": LIMITS,
    }


def _synchronised(job: Job, device: str) -> Job:
    def whole() -> None:
        job()
        torch.cuda.synchronize(device)

    return whole


def lines(result: dict[str, Any]) -> list[str]:
    """The figures as text."""
    out = [
        f"{result['pairs']} pairs, {result['drawn']} drawn, {result['channels']} channels, "
        f"{result['device']}, {result['threads']} thread(s), torch {result['torch']}",
        f"{'milliseconds, forward and backward':36s} fastest  median  memory MiB  times bare",
    ]
    for members in result["figures"].values():
        for name, figures in members.items():
            memory = figures["memory_mib"]
            shown = "         -" if memory is None else f"{memory:10.1f}"
            row = f"{name:36s} {figures['fastest_ms']:7.2f} {figures['median_ms']:7.2f}  {shown}"
            ratio, limit = result["times_bare"].get(name), result["limits_times_bare"].get(name)
            if ratio is not None:
                row += f"  {ratio:10.2f}"
            if limit is not None:
                row += f"  limit {limit:g} {'met' if ratio <= limit else 'MISSED'}"
            out.append(row)
    return out
