"""Compressed chunks of other recorders' files; ours are not compressed."""

from __future__ import annotations

from condense_ros.errors import BagError


def decompress(data: bytes, compression: str, size: int, *, whole: bool = True) -> bytes:
    """The records of a chunk.

    Args:
        compression: as MCAP names it: "", "zstd" or "lz4".
        size: of the records, bytes.
        whole: False if the data are cut off; then what they give is returned.

    Raises:
        BagError: damaged, or of an unknown compression.
    """
    try:
        if compression == "zstd":
            import zstandard

            if not whole:
                return zstandard.ZstdDecompressor().decompressobj().decompress(data)
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        if compression == "lz4":
            import lz4.frame

            if not whole:
                return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
            return bytes(lz4.frame.decompress(data))
    except ImportError as error:
        raise BagError(
            f"a chunk is compressed with {compression}", f"pip install {error.name}"
        ) from error
    # both libraries raise their own error types on damaged input
    except Exception as error:
        raise BagError(
            f"a chunk does not decompress: {error}", "recover the bag from a backup"
        ) from error
    if compression:
        raise BagError(
            f"unknown chunk compression {compression!r}", "convert the bag with the mcap tool"
        )
    return data
