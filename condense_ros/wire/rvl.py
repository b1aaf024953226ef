"""RVL, the lossless depth compression of compressed_depth_image_transport.

Wilson, "Fast Lossless Depth Image Compression", ISS 2017: runs of zeros, then runs of values, of
which the differences are stored; numbers take as many 4-bit nibbles as they need (three bits each,
lowest first, the fourth says that more follow), eight nibbles to a little-endian 32-bit word,
highest first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.errors import WireError

#: a number of more nibbles would not fit 32 bits
_MAX_NIBBLES = 11


def _numbers(data: bytes) -> npt.NDArray[np.int64]:
    """All complete numbers of the stream."""
    words = np.frombuffer(data, "<u4", count=len(data) // 4)
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    nibbles = ((words[:, None] >> shifts) & 15).astype(np.uint8).ravel()
    last = np.nonzero(nibbles < 8)[0]
    if not last.size:
        return np.empty(0, np.int64)
    first = np.concatenate([[0], last[:-1] + 1])
    if int((last - first).max()) >= _MAX_NIBBLES:
        raise WireError(
            "RVL image holds a number of more than 32 bits", "check the depth camera's driver"
        )
    nibbles = nibbles[: last[-1] + 1]
    place = np.arange(nibbles.size) - np.repeat(first, last - first + 1)
    return np.add.reduceat((nibbles & 7).astype(np.int64) << (3 * place), first)


def decode_rvl(data: bytes, pixels: int) -> npt.NDArray[np.uint16]:
    """(pixels,) uint16 depth, 0 = none.

    Raises:
        WireError: the runs are cut short or run past the image.
    """
    numbers = _numbers(data)
    runs: list[tuple[int, int, int]] = []  # pixel and number at which a run of values starts, size
    at = pixel = 0
    while pixel < pixels:
        if at + 2 > len(numbers):
            raise WireError(
                f"RVL image of {pixels} pixels ends at pixel {pixel}",
                "check the depth camera's driver and the link; the message was cut short",
            )
        pixel += int(numbers[at])
        size = int(numbers[at + 1])
        at += 2
        if pixel + size > pixels or at + size > len(numbers):
            raise WireError(
                f"RVL image of {pixels} pixels has a run of {size} values at pixel {pixel}",
                "check the depth camera's driver and the link; the message was altered",
            )
        if size:
            runs.append((pixel, at, size))
        pixel += size
        at += size
    depth = np.zeros(pixels, np.uint16)
    if not runs:
        return depth
    start, source, length = np.array(runs, np.int64).T
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    coded = numbers[np.repeat(source, length) + within]
    steps = (coded >> 1) ^ -(coded & 1)  # zigzag: 0 -1 1 -2 2
    depth[np.repeat(start, length) + within] = np.cumsum(steps) & 0xFFFF
    return depth


def encode_rvl(depth: npt.NDArray[np.uint16]) -> bytes:
    """The RVL stream of uint16 depth of any shape."""
    values = np.asarray(depth, np.int64).ravel()
    full = np.concatenate([[False], values > 0, [False]])
    turns = np.nonzero(full[1:] != full[:-1])[0]  # start, end, start, end, ...
    starts, ends = turns[::2], turns[1::2]
    zeros = starts - np.concatenate([[0], ends[:-1]]) if starts.size else starts
    some = values[values > 0]
    steps = np.diff(some, prepend=0)
    coded = (steps << 1) ^ (steps >> 63)
    head = np.stack([zeros, ends - starts], axis=1).ravel()
    # each run's two lengths stand before its values
    place = np.repeat(np.cumsum(ends - starts) - (ends - starts), 2)
    numbers = np.insert(coded, place, head)
    rest = values.size - (int(ends[-1]) if ends.size else 0)
    if rest:
        numbers = np.concatenate([numbers, [rest, 0]])
    digits = np.arange(_MAX_NIBBLES)
    nibbles = (numbers[:, None] >> (3 * digits)) & 7
    more = (numbers[:, None] >> (3 * (digits + 1))) > 0
    used = np.concatenate([np.ones((len(numbers), 1), bool), more[:, :-1]], axis=1)
    stream = (nibbles | (more << 3))[used].astype(np.uint32)
    stream = np.concatenate([stream, np.zeros(-len(stream) % 8, np.uint32)]).reshape(-1, 8)
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    return np.bitwise_or.reduce(stream << shifts, axis=1).astype("<u4").tobytes()
