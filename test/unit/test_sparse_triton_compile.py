"""The Triton kernels become machine code for GPUs that are not here, and fit them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]
#: what a device of compute capability 8.6 or 8.9 gives one program; 8.0, 8.7 and 9.0 give more
SHARED_BYTES = 99 * 1024


@pytest.mark.parametrize(
    ("capability", "dtype"), [(80, "float32"), (87, "float16"), (90, "bfloat16")]
)
def test_kernels_of_a_network_compile(capability: int, dtype: str, tmp_path: Path) -> None:
    """Ampere, Orin, Hopper: no spilled sums, no more shared memory than the smallest has."""
    environment = {
        **os.environ,
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, ROOT / "test" / "compile_kernels.py", str(capability), dtype],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    # the number of rows, which changes with every cloud, compiles nothing anew
    assert report["variants_over_sizes"] == {
        "row_masks": 1, "cut": 1, "gather_slots": 1, "finish": 1,
        "convolve": 2, "weight_gradient": 1, "add_chunks": 1,
    }  # fmt: skip
    kernels = report["kernels"]
    assert {kernel["kernel"] for kernel in kernels} == set(report["variants_over_sizes"])
    for kernel in kernels:
        multiplies = kernel["kernel"] in ("convolve", "weight_gradient")
        assert kernel["spilled"] <= (0 if multiplies else 16), kernel
        assert kernel["shared"] <= SHARED_BYTES, kernel
        assert kernel["registers"] <= 255, kernel
        assert kernel["tensor_cores"] == (multiplies and dtype != "float32"), kernel
    # one launch per layer, and one more where its products are split: 25 convolutions (stem, four
    # down, four up, two in each of eight blocks) forward, back to their inputs but for the stem's,
    # and in inference, where 7 shortcuts are convolutions too
    launches = report["launches"]
    assert launches["convolve"] == 25 + 24 + 25 + 7
    assert launches["weight_gradient"] == 25
    assert launches["finish"] <= launches["convolve"]
    # 6 submanifold maps (the stem's and one per level) and 8 strided ones, each planned once
    assert launches["row_masks"] == 6 + 8
    assert launches["gather_slots"] == 6 + 8
