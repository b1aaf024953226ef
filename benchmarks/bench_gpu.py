"""Checks and times the sparse backends on a GPU; needs torch, triton and NumPy, nothing else.

    python benchmarks/bench_gpu.py [SCAN.bin] [--device cuda] [--precision float16 tf32]
                                   [--batch 1 8] [--tune] [--json results.json] [--quick]

SCAN is a KITTI scan (float32 x, y, z, intensity); without one a 64-beam sweep through a street of
boxes is made up. The network is the preset unet34c on voxels of 5 cm. Prints Markdown, then JSON:

- whether every backend equals the float64 reference, forward, fused and in both gradients;
- per layer: forward and gradients on the maps of the scan, maps kept;
- per network: the first frame ("cold": compilation and all), a new frame ("frame": kernel maps are
  made anew), the same maps again ("layers"), all of it again after tuning, and a training step;
- launches of a frame and memory; the floor: for each layer the larger of products / measured rate
  of matrix products and bytes / measured rate of copies, each byte read or written once.

A part that fails is told about, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "test"), str(ROOT / "benchmarks")]

from bench_sparse import made_up_sweep  # noqa: E402
from sparse_problems import CASES, TOLERANCE, check  # noqa: E402

from condense_ros.frame import PointCloud  # noqa: E402
from condense_ros.models import InputSpec, SparseUNet, preset  # noqa: E402
from condense_ros.sparse import SparseTensor, Voxels, collate, use_backend  # noqa: E402
from condense_ros.sparse.backends.choose import available, backend  # noqa: E402
from condense_ros.sparse.kernel_map import KernelMap, identity_map  # noqa: E402
from condense_ros.sparse.layers import Linear, _Convolution  # noqa: E402

#: how operands are multiplied: dtype of the features, and whether float32 may use TF32
PRECISIONS = {
    "float32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "float16": (torch.float16, False),
    "bfloat16": (torch.bfloat16, False),
}
LAYERS = ((32, 32), (64, 64), (96, 96), (128, 128), (256, 256))
#: what a layer of the network computes
Step = tuple[KernelMap, int, int]


class Bench:
    """Where it runs, and everything found."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.gpu = self.device.type == "cuda"
        self.found: dict[str, Any] = {"failures": []}
        self.backends = [
            name
            for name, problem in available(self.device, torch.float32).items()
            # Triton's interpreter on a CPU is for tests
            if not problem and (self.gpu or name in ("torch", "cpu"))
        ]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """One part; its failure does not end the others."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            print(f"\nFAILED {name}: {type(error).__name__}: {error}\n")
            self.found["failures"].append(f"{name}: {type(error).__name__}: {error}")
        if self.gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.gpu:
            torch.cuda.synchronize()

    def ms(self, call: Callable[[], object], warm: int = 3) -> float:
        """Median milliseconds from call to result, the device waited for."""
        runs = 2 if self.args.quick else self.args.runs
        for _ in range(1 if self.args.quick else warm):
            call()
        times = []
        for _ in range(runs):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)


def describe(bench: Bench) -> None:
    about = {"torch": torch.__version__, "python": platform.python_version()}
    try:
        import triton

        about["triton"] = triton.__version__
    except ImportError:
        about["triton"] = "not installed"
    if bench.gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        about["device"] = properties.name
        about["capability"] = f"{properties.major}.{properties.minor}"
        about["processors"] = str(properties.multi_processor_count)
        about["memory_gib"] = f"{properties.total_memory / 2**30:.0f}"
    else:
        about["device"] = f"CPU, {torch.get_num_threads()} thread(s)"
    bench.found["about"] = about
    reasons = available(bench.device, torch.float32)
    bench.found["not_usable"] = {name: why for name, why in reasons.items() if why}
    print("# Sparse backends\n")
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name, why in bench.found["not_usable"].items():
        print(f"- {name} is left out: {why}")


def table(columns: list[str], rows: list[list[object]]) -> None:
    """Prints Markdown."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    print("\n" + line(columns) + "\n" + line(["---"] * len(columns)))
    for row in rows:
        cells = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row]
        print(line(cells))
    print(flush=True)


def check_all(bench: Bench) -> None:
    print("\n## Correctness against float64")
    rows, cases = [], CASES[:4] if bench.args.quick else CASES
    for name in bench.backends:
        for dtype in TOLERANCE:
            if backend(name).problem(bench.device, dtype):
                continue
            wrong = []
            for case in cases:
                exact = name == "triton" or dtype == torch.float32
                try:
                    check(
                        backend(name), case, dtype, bench.device,
                        tolerance=None if exact else 4 * TOLERANCE[dtype],
                    )  # fmt: skip
                except Exception as error:
                    wrong.append(f"{case.name}: {type(error).__name__} {error}"[:300])
            rows.append([name, str(dtype), f"{len(cases) - len(wrong)}/{len(cases)}", *wrong[:1]])
            bench.found["failures"] += [f"{name} {dtype} {text}" for text in wrong]
    table(["backend", "dtype", "right", ""], [row + [""] * (4 - len(row)) for row in rows])
    bench.found["correctness"] = rows


def voxels_of(bench: Bench, batch: int) -> Voxels:
    """The scan, turned about its axis for each further element of the batch."""
    args = bench.args
    if args.scan:
        xyz = np.fromfile(args.scan, np.float32).reshape(-1, args.columns)[:, :3]
    else:
        xyz = made_up_sweep(16, 256) if args.quick else made_up_sweep(64, 2048)
    spec = InputSpec(voxel_size_m=args.voxel)
    clouds = []
    for turn in range(batch):
        angle = 2 * np.pi * turn / batch
        c, s = np.cos(angle), np.sin(angle)
        turned = xyz @ np.float32([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
        clouds.append(spec.voxelize(PointCloud(np.ascontiguousarray(turned))))
    return collate(clouds).to(bench.device)


@contextmanager
def precision(bench: Bench, name: str) -> Iterator[Any]:
    """Sets TF32 and gives the autocast to compute in."""
    dtype, tf32 = PRECISIONS[name]
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with (
            torch.autocast(bench.device.type, dtype=dtype) if dtype.itemsize == 2 else nullcontext()
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def rates(bench: Bench) -> dict[str, float]:
    """Measured TFLOP/s of large matrix products by precision, and TB/s of copies."""
    size = 512 if bench.args.quick or not bench.gpu else 8192
    found = {}
    for name in bench.args.precision:
        dtype, _ = PRECISIONS[name]
        with precision(bench, name):
            a, b = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
            with torch.autocast(bench.device.type, enabled=False):
                found[name] = 2 * size**3 / bench.ms(lambda a=a, b=b: a @ b) / 1e9
    block = torch.empty(
        (2**22 if bench.args.quick or not bench.gpu else 2**28), device=bench.device
    )
    other = torch.empty_like(block)
    found["copy_tb_s"] = 2 * block.nbytes / bench.ms(lambda: other.copy_(block)) / 1e9
    bench.found["rates"] = found
    print("\n## Measured rates (TFLOP/s of products, TB/s of copies)")
    table(list(found), [list(found.values())])
    return found


def steps_of(net: SparseUNet, x: SparseTensor) -> list[Step]:
    """Every convolution and linear map of a forward pass."""
    steps: list[Step] = []

    def seen(module: nn.Module, inputs: tuple[SparseTensor, ...]) -> None:
        if isinstance(module, Linear):
            shape = identity_map(len(inputs[0]), inputs[0].device)
            steps.append((shape, module.in_features, module.out_features))
        elif isinstance(module, _Convolution):
            _, _, kernel_map = module.geometry(inputs[0])
            steps.append((kernel_map, module.in_channels, module.out_channels))

    hooks = [module.register_forward_pre_hook(seen) for module in net.modules()]
    net(x)  # with gradients on, layers are not fused
    for hook in hooks:
        hook.remove()
    return steps


def floor_ms(steps: list[Step], rate: float, copy: float, itemsize: int) -> tuple[float, float]:
    """Milliseconds no implementation beats at these rates, and 10^9 products."""
    total = products = 0.0
    for kernel_map, c_in, c_out in steps:
        pairs = kernel_map.n_pairs
        size = (kernel_map.n_source * c_in + kernel_map.n_target * c_out) * itemsize
        size += kernel_map.kernel_size * (c_in * c_out * itemsize + kernel_map.n_target * 4)
        total += max(2 * pairs * c_in * c_out / rate / 1e9, size / copy / 1e9)
        products += pairs * c_in * c_out / 1e9
    return total, products


def launches_of(bench: Bench, call: Callable[[], object]) -> int | str:
    """Kernels on the device during a call."""
    if not bench.gpu:
        return "-"
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        call()
        bench.wait()
    return sum(event.device_type.name == "CUDA" for event in seen.events())


def layers(bench: Bench) -> None:
    print("\n## Layers: submanifold 3x3x3, kernel map kept, milliseconds")
    voxels = voxels_of(bench, 1)
    maps = voxels.sparse_tensor().maps
    sizes = [len(maps.level(1)), *(len(maps.coarsen(s, 2)) for s in (1, 2, 4, 8))]
    print(f"\nvoxels per level: {sizes}")
    bench.found["voxels"], rows = sizes, []
    strides = (1, 2, 2, 4, 8)
    for (c_in, c_out), stride in list(zip(LAYERS, strides, strict=True))[
        : 1 if bench.args.quick else 5
    ]:
        kernel_map = maps.submanifold(stride, 3)
        n = kernel_map.n_source
        for name in bench.args.precision:
            dtype, _ = PRECISIONS[name]
            for engine in bench.backends:
                if backend(engine).problem(bench.device, dtype):
                    continue
                x = torch.randn(n, c_in, device=bench.device).to(dtype)
                weight = torch.randn(27, c_in, c_out, device=bench.device).to(dtype)
                grad = torch.randn(n, c_out, device=bench.device).to(dtype)
                made = backend(engine)
                with bench.part(f"layer {c_in}x{c_out} {name} {engine}"), precision(bench, name):
                    calls = (
                        lambda m=made, x=x, w=weight, k=kernel_map: m.forward(x, w, k),
                        lambda m=made, g=grad, w=weight, k=kernel_map: m.input_gradient(g, w, k),
                        lambda m=made, x=x, g=grad, k=kernel_map: m.weight_gradient(x, g, k),
                    )
                    times = [bench.ms(call) for call in calls]
                    rows.append(
                        [f"{c_in}x{c_out}", n, kernel_map.n_pairs / n, name, engine, *times]
                    )
        for package in ("spconv", "spconv_triton"):
            if not backend(package.replace("_", "-")).problem(bench.device, torch.float16):
                with bench.part(f"{package}'s own layer"):
                    forward, step = own_layer(bench, package, voxels, stride, c_in, c_out)
                    label = f"{package}, own layer"
                    rows.append(
                        [f"{c_in}x{c_out}", n, kernel_map.n_pairs / n, "float16", label, forward,
                         f"step {step:.3f}", ""]
                    )  # fmt: skip
    columns = ["channels", "voxels", "neighbours", "precision", "backend"]
    columns += ["forward", "input gradient", "weight gradient"]
    table(columns, rows)
    bench.found["layers"] = [dict(zip(columns, row, strict=True)) for row in rows]


def own_layer(
    bench: Bench, package: str, voxels: Voxels, stride: int, c_in: int, c_out: int
) -> tuple[float, float]:
    """Their own module on the same voxels in float16, pairs kept: forward, and a training step."""
    import importlib

    theirs = importlib.import_module(f"{package}.pytorch")
    maps = voxels.sparse_tensor().maps
    for finer in (1, 2, 4):
        if finer < stride:
            maps.coarsen(finer, 2)
    coords = maps.level(stride).coords
    low = coords.amin(0)
    low[0] = 0
    coords = (coords - low).contiguous()
    shape = [int(size) for size in (coords[:, 1:].amax(0) + 1).tolist()]
    conv = theirs.SubMConv3d(c_in, c_out, 3, padding=1, bias=False, indice_key="kept")
    conv = conv.to(bench.device).half()
    features = torch.randn(len(coords), c_in, device=bench.device).half().requires_grad_()
    made = conv(theirs.SparseConvTensor(features, coords, shape, voxels.batch_size))

    def forward() -> Tensor:
        x = theirs.SparseConvTensor(features, coords, shape, voxels.batch_size)
        x.indice_dict = made.indice_dict
        out: Tensor = conv(x).features
        return out

    def plain() -> None:
        with torch.no_grad():
            forward()

    conv.eval()
    inference = bench.ms(plain)
    conv.train()
    return inference, bench.ms(lambda: forward().float().sum().backward())


def networks(bench: Bench, measured: dict[str, float]) -> None:
    args = bench.args
    name = "demo" if args.quick else "unet34c"
    spec = InputSpec(voxel_size_m=args.voxel)
    config = preset(name, spec)
    rows: list[dict[str, Any]] = []
    for batch in args.batch:
        voxels = voxels_of(bench, batch)
        torch.manual_seed(0)
        net = SparseUNet(spec.channels, config.widths, config.blocks, config.stem_kernel)
        net.to(bench.device)
        steps = steps_of(net.eval(), voxels.sparse_tensor())
        for how in args.precision:
            dtype, _ = PRECISIONS[how]
            rate = measured.get(how, float("nan"))
            floor, products = floor_ms(steps, rate, measured["copy_tb_s"], dtype.itemsize)
            for engine in bench.backends:
                if backend(engine).problem(bench.device, dtype):
                    continue
                row = {
                    "network": name, "batch": batch, "voxels": len(voxels), "precision": how,
                    "backend": engine, "GMAC": products, "floor": floor,
                }  # fmt: skip
                with bench.part(f"{name} batch {batch} {how} {engine}"):
                    with use_backend(engine), precision(bench, how):
                        time_network(bench, net, voxels, row)
                    row["layers / floor"] = row["layers"] / floor
                rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n## Network {name}, milliseconds")
    table(columns, [[row.get(column, "-") for column in columns] for row in rows])
    bench.found["networks"] = rows


def time_network(bench: Bench, net: SparseUNet, voxels: Voxels, row: dict[str, Any]) -> None:
    """Inference and training step, untuned and, where there is something to tune, tuned."""
    kept = voxels.sparse_tensor()

    def frame() -> None:
        with torch.no_grad():
            net(voxels.sparse_tensor())

    def again() -> None:
        with torch.no_grad():
            net(kept)

    def step(x: SparseTensor | None = None) -> None:
        for parameter in net.parameters():
            parameter.grad = None
        net(x or voxels.sparse_tensor()).features.float().square().mean().backward()

    def both(suffix: str) -> None:
        net.eval()
        row["frame" + suffix], row["layers" + suffix] = bench.ms(frame), bench.ms(again)
        if not bench.args.no_train:
            net.train()
            row["step" + suffix] = bench.ms(step)

    net.eval()
    bench.wait()
    start = time.perf_counter()
    frame()
    bench.wait()
    row["cold"] = (time.perf_counter() - start) * 1e3
    both("")
    net.eval()
    row["launches"] = launches_of(bench, frame)
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
        frame()
        row["MiB"] = torch.cuda.max_memory_allocated() / 2**20
        if not bench.args.no_train:
            net.train()
            torch.cuda.reset_peak_memory_stats()
            step()
            row["MiB step"] = torch.cuda.max_memory_allocated() / 2**20
    if bench.args.tune and row["backend"] == "triton":
        from condense_ros.sparse.backends.triton_tuning import tune

        start = time.perf_counter()
        net.eval()
        results = tune(frame)
        if not bench.args.no_train:
            net.train()
            results += tune(step)
        row["tuning s"] = time.perf_counter() - start
        row["shapes tuned"] = len(results)
        both(", tuned")


def nan_check(bench: Bench) -> None:
    """Two hundred training steps: a loss that falls, and no NaN on the way."""
    steps = 3 if bench.args.quick else 200
    rows = []
    voxels = voxels_of(bench, 1)
    for how in bench.args.precision:
        engine = "triton" if "triton" in bench.backends else "torch"
        if backend(engine).problem(bench.device, PRECISIONS[how][0]):
            continue
        with bench.part(f"{steps} steps {how}"), use_backend(engine):
            torch.manual_seed(0)
            spec = InputSpec(voxel_size_m=bench.args.voxel)
            net = SparseUNet(spec.channels, preset("demo", spec).widths, (1,) * 8).to(bench.device)
            optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
            scaler = torch.amp.GradScaler(bench.device.type, enabled=how == "float16")
            x = voxels.sparse_tensor()
            wanted = torch.sin(x.coords[:, 1:].float().sum(1) / 9)[:, None]
            losses = []
            for _ in range(steps):
                with precision(bench, how):
                    loss = (net(x).features.float() - wanted).square().mean()
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                losses.append(loss.detach())
            trace = torch.stack(losses)
            if not bool(torch.isfinite(trace).all()):
                raise FloatingPointError(f"the loss is not finite after {how}")
            rows.append([engine, how, steps, float(trace[0]), float(trace[-1])])
    print("\n## Training")
    columns = ["backend", "precision", "steps", "first loss", "last loss"]
    table(columns, rows)
    bench.found["training"] = [dict(zip(columns, row, strict=True)) for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", nargs="?", type=Path)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--voxel", type=float, default=0.05)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--tune", action="store_true", help="tune Triton, results are kept")
    parser.add_argument("--no-train", action="store_true")
    parser.add_argument("--json", type=Path, default=Path(tempfile.gettempdir()) / "bench_gpu.json")
    parser.add_argument("--quick", action="store_true", help="small and inexact: does it run")
    args = parser.parse_args()
    if args.quick:
        args.voxel, args.batch = max(args.voxel, 0.4), args.batch[:1]
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu --quick shows whether this script runs")
    bench = Bench(args)
    describe(bench)
    with bench.part("correctness"):
        check_all(bench)
    measured: dict[str, float] = {"copy_tb_s": float("nan")}
    with bench.part("rates"):
        measured = rates(bench)
    with bench.part("layers"):
        layers(bench)
    with bench.part("networks"):
        networks(bench, measured)
    with bench.part("training"):
        nan_check(bench)
    text = json.dumps(bench.found, indent=1, default=str)
    args.json.write_text(text + "\n")
    print(f"\n```json\n{text}\n```\n\nalso in {args.json}")
    for failure in bench.found["failures"]:
        print(f"FAILED {failure}")
    return 1 if bench.found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
