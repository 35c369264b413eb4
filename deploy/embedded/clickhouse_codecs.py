"""Bodies and answers, packed and unpacked as ClickHouse's clients ask for it.

What belongs here: HTTP's content encodings, ClickHouse's own framing (`compress=1`, `decompress=1`; what the JDBC driver
uses unless told otherwise) and its checksum. What does not: requests, statements, formats of rows.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from gzip import GzipFile
from typing import IO, Any

import lz4.block
import lz4.frame
from backports import zstd

MEBIBYTE = 1 << 20
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, zlib.error, zstd.ZstdError)
HEAD = struct.Struct("<BII")  # method, packed size with this head, size
STORED, LZ4, ZSTD = 0x02, 0x82, 0x90


def spool() -> Any:
    return tempfile.SpooledTemporaryFile(max_size=8 * MEBIBYTE)


def unpacked(body: IO[bytes], encoding: str, framed: bool) -> IO[bytes]:
    """The whole content, at its begin. A decoder reads several frames in a row, which clients send.

    Raises:
        one of DAMAGED: the body is not what it says, or ends early.
    """
    body.seek(0)
    content: Any = body
    if encoding == "gzip":
        content = GzipFile(fileobj=body, mode="rb")
    elif encoding == "deflate":
        content = io.BytesIO(zlib.decompress(body.read()))
    elif encoding == "lz4":
        content = lz4.frame.LZ4FrameFile(body)
    elif encoding == "zstd":
        content = zstd.ZstdFile(body)
    elif encoding not in ("", "identity"):
        raise ValueError(f"Content-Encoding {encoding} is not understood here, send gzip, deflate, lz4, zstd or none")
    if content is body and not framed:
        return body
    whole = spool()
    if framed:
        whole.writelines(unframed(content))
    else:
        shutil.copyfileobj(content, whole, MEBIBYTE)
    whole.seek(0)
    return whole


def chosen(accepted: str, framed: bool) -> str:
    """How to pack an answer for a client that accepts this."""
    names = {name.partition(";")[0].strip() for name in accepted.lower().split(",")}
    return "frames" if framed else next((name for name in ("lz4", "gzip") if name in names), "")


def packed(blocks: Iterable[bytes], how: str) -> Generator[bytes]:
    if how not in ("lz4", "gzip"):
        yield from map(frame, blocks) if how == "frames" else blocks
        return
    packer: Any = lz4.frame.LZ4FrameCompressor() if how == "lz4" else zlib.compressobj(3, wbits=31)
    if how == "lz4":
        yield packer.begin()
    try:
        for block in blocks:
            yield packer.compress(block)
    except Exception:
        yield packer.flush()  # what came before the fault, and its report, must be readable
        raise
    yield packer.flush()


# ---- ClickHouse's own framing: checksum (16 bytes), head, data -------------------------------------------------------


def frame(data: bytes) -> bytes:
    frames: list[bytes] = []
    for at in range(0, len(data), MEBIBYTE):
        piece = data[at : at + MEBIBYTE]
        small = lz4.block.compress(piece, store_size=False)
        block = HEAD.pack(LZ4, len(small) + HEAD.size, len(piece)) + small
        frames += cityhash128(block), block
    return b"".join(frames)


def unframed(source: IO[bytes]) -> Iterator[bytes]:
    """The checksum is not verified: on one machine TCP's is enough, and in Python it takes longer than the insert."""
    while head := source.read(16 + HEAD.size):
        method, size, unpacked_size = HEAD.unpack_from(head.ljust(16 + HEAD.size), 16)
        data = source.read(max(0, size - HEAD.size))
        if len(data) != size - HEAD.size or method not in (STORED, LZ4, ZSTD):
            raise ValueError("a compressed block is damaged")
        if method == LZ4:
            data = lz4.block.decompress(data, uncompressed_size=unpacked_size)
        yield zstd.decompress(data) if method == ZSTD else data


# CityHash 1.0.2, which no package here has; clients refuse a block whose checksum differs.
K0, K1, K2, K3 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
FULL = (1 << 64) - 1


def turn(value: int, by: int) -> int:
    value &= FULL
    return value >> by | value << (64 - by) & FULL


def shift_mix(value: int) -> int:
    value &= FULL
    return value ^ value >> 47


def pair(low: int, high: int, by: int = 0x9DDFEA08EB382D69) -> int:
    mixed = shift_mix(((low ^ high) & FULL) * by)
    return shift_mix(((high ^ mixed) & FULL) * by) * by & FULL


def number(data: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(data[at : at + size], "little")


def short(data: bytes) -> int:
    size = len(data)
    if size > 8:
        first, last = number(data, 0), number(data, size - 8)
        return pair(first, turn(last + size, size)) ^ last
    if size >= 4:
        return pair(size + (number(data, 0, 4) << 3), number(data, size - 4, 4))
    if size:
        low, high = data[0] + (data[size >> 1] << 8), size + (data[-1] << 2)
        return shift_mix(low * K2 ^ high * K3) * K2 & FULL
    return K2


def weak(words: tuple[int, ...], first: int, second: int) -> tuple[int, int]:
    first += words[0]
    second = turn(second + first + words[3], 21)
    total = first + words[1] + words[2]
    return (total + words[3]) & FULL, (second + turn(total, 44) + first) & FULL


def murmur(data: bytes, a: int, b: int) -> bytes:
    size = len(data)
    if size <= 16:
        a = shift_mix(a * K1) * K1 & FULL
        c = b * K1 + short(data) & FULL
        d = shift_mix(a + (number(data, 0) if size >= 8 else c))
    else:
        c = pair(number(data, size - 8) + K1 & FULL, a)
        d = pair(b + size & FULL, c + number(data, size - 16) & FULL)
        a += d
        for at in range(0, size - 16, 16):
            a = (a ^ shift_mix(number(data, at) * K1) * K1) * K1 & FULL
            b ^= a
            c = (c ^ shift_mix(number(data, at + 8) * K1) * K1) * K1 & FULL
            d ^= c
    a, b = pair(a & FULL, c), pair(d, b)
    return struct.pack("<QQ", a ^ b, pair(b, a))


def cityhash128(block: bytes) -> bytes:
    if len(block) < 16:  # a head and at least one byte: never below 8
        return murmur(b"", number(block, 0) ^ len(block) * K0 & FULL, number(block, len(block) - 8) ^ K1)
    x, y, data = number(block, 0) ^ K3, number(block, 8), block[16:]
    size = len(data)
    if size < 128:
        return murmur(data, x, y)
    z = size * K1 & FULL
    v = turn(y ^ K1, 49) * K1 + number(data, 0) & FULL
    v = v, turn(v, 42) * K1 + number(data, 8) & FULL
    w = turn(y + z, 35) * K1 + x & FULL, turn(x + number(data, 88), 53) * K1 & FULL
    done = size & ~127
    for words in struct.iter_unpack("<8Q", data[:done]):
        x = turn(x + y + v[0] + words[2], 37) * K1 & FULL ^ w[1]
        y = turn(y + v[1] + words[6], 42) * K1 & FULL ^ v[0]
        z = turn(z ^ w[0], 33)
        v, w = weak(words, v[1] * K1, x + w[0]), weak(words[4:], z + w[1], y)
        z, x = x, z
    y += turn(w[0], 37) * K0 + z
    x += turn(v[0] + z, 49) * K0
    for at in range(size - 32, done - 32, -32):
        words = struct.unpack_from("<4Q", data, at)  # the last one reaches back into what is done
        y = turn(y - x, 42) * K0 + v[1] & FULL
        w = w[0] + words[2], w[1]
        x = turn(x, 49) * K0 + w[0] & FULL
        w = w[0] + v[0] & FULL, w[1]
        v = weak(words, *v)
    x, y = pair(x & FULL, v[0]), pair(y & FULL, w[0])
    return struct.pack("<QQ", pair(x + v[1] & FULL, w[1]) + y & FULL, pair(x + w[1] & FULL, y + v[1] & FULL))
