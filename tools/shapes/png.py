"""Write PNG files whose bytes do not depend on any compression library."""

import struct
import zlib

import numpy as np

_BLOCK = 65535


def encode_png(image: np.ndarray) -> bytes:
    """Encode without compression: the same pixels give the same bytes on every machine.

    Args:
        image: uint8[H, W, 3] RGB, or uint8[H, W] or uint16[H, W] grey.
    """
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        colour, depth = 2, 8
    elif image.ndim == 2 and image.dtype in (np.uint8, np.uint16):
        colour, depth = 0, 8 * image.dtype.itemsize
    else:
        raise ValueError(f'no PNG for {image.dtype} of shape {image.shape}')
    height, width = image.shape[:2]
    rows = np.ascontiguousarray(image.astype(image.dtype.newbyteorder('>')))
    rows = rows.view(np.uint8).reshape(height, -1)
    # Every row starts with its filter type, 0: none.
    data = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    chunks = _chunk(b'IHDR', header) + _chunk(b'IDAT', _store(data)) + _chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def _store(data: bytes) -> bytes:
    """Wrap data as a zlib stream of stored blocks."""
    blocks = [b'\x78\x01']
    for start in range(0, len(data), _BLOCK):
        piece = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        blocks.append(struct.pack('<BHH', last, len(piece), len(piece) ^ 0xFFFF) + piece)
    return b''.join([*blocks, struct.pack('>I', zlib.adler32(data))])
