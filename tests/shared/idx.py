"""IDX files, the format of MNIST."""

import math
import struct


def idx_bytes(
    shape: tuple[int, ...], content: bytes | None = None, kind: int = 8, first: int = 0
) -> bytes:
    """The header of an array of bytes, and its content, by default zeros."""
    numbers = bytes(math.prod(shape)) if content is None else content
    return bytes((first, 0, kind, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + numbers
