"""Changes bytes and text so that they are almost what a reader expects."""

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from random import Random

LARGEST = 1 << 21
"""Bytes of an input; what is larger is cut."""

HUGE = (
    *("0", "-1", "9" * 18, "9" * 19, "9" * 400, "1e308", "1e999", "-1e999", "0x" + "f" * 40, "1_000"),
    "0.1" + "0" * 60,
    *("2147483648", "-9223372036854775809", "18446744073709551616", "NaN", ".inf", "-.nan", "١٢٣"),
    "1.7976931348623157e+309",
)  # fmt: skip
STRANGE = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x1b[2J", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\r", b"\r\n", b"\x85", b"\xe2\x80\xa8", b"\x1a", b"\x7f", "\u202e".encode(), "\U0001f4a5".encode(), b"\t"),
)
SIZES = (1, 2, 3, 7, 64, 255, 256, 4_096, 20_001, 65_537)


def bytes_changed(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """One to some changes of any kind. ``words`` are of the input's language, ``others`` further inputs."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 12))):
        change = random.choice(_CHANGES)
        data = change(random, data, words, others)[:LARGEST]
    return data


def _span(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice(SIZES))


def _flip(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 32)) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    new = random.choice((bytes([random.randrange(256)]), random.randbytes(4), b"\xff" * 4, b"\0" * 4))
    return data[:at] + new + data[at + len(new) :]


def _insert(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice((*words, *STRANGE) if random.random() < 0.5 else words) + data[at:]


def _replace(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + random.choice((*words, *STRANGE)) + data[end:]


def _truncate(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _delete(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _repeat(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    times = random.choice((2, 3, 40, 1_000, 60_000))
    return data[:start] + (data[start:end] * times)[:LARGEST] + data[end:]


def _move(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    rest = data[:start] + data[end:]
    at = random.randrange(len(rest) + 1)
    return rest[:at] + data[start:end] + rest[at:]


def _splice(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _digits(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    numbers = list(re.finditer(rb"[0-9]+", data))
    if not numbers:
        return data
    found = random.choice(numbers)
    return data[: found.start()] + random.choice(HUGE).encode() + data[found.end() :]


def _encode(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    text = data.decode("utf-8", "replace")
    name = random.choice(("utf-16", "utf-16-le", "utf-8-sig", "latin-1", "cp1252", "utf-32", "utf-7", "cp037"))
    return text.encode(name, "replace")


def _line_ends(random: Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    return data.replace(b"\n", random.choice((b"\r\n", b"\r", b"", b"\n\n", b"\0", b"\xe2\x80\xa8")))


_Change = Callable[[Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]
_CHANGES: Sequence[_Change] = (
    *(_flip, _flip, _overwrite, _overwrite, _insert, _insert, _insert, _replace, _replace, _truncate, _delete),
    _delete,
    *(_repeat, _move, _splice, _digits, _digits, _encode, _line_ends),
)


def packed(random: Random, data: bytes) -> bytes:
    """The bytes compressed, mostly as they should be."""
    whole = gzip.compress(data, random.choice((1, 9)), mtime=0)
    match random.randrange(8):
        case 0:
            return _flip(random, whole, (), ())
        case 1:
            return _truncate(random, whole, (), ())
        case 2:
            return whole + random.choice((b"\0" * 700, b"rubbish", whole, gzip.compress(b"", mtime=0) * 2_000))
        case 3:
            half = len(data) // 2
            return gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0)
        case 4:
            return whole[:-8] + random.randbytes(8)
        case _:
            return whole


def packed_bomb(random: Random, data: bytes, filling: bytes) -> bytes:
    """A few kilobytes that stand for up to a gigabyte: the data with a filling somewhere."""
    at = random.randrange(len(data) + 1)
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [pack.compress(data[:at])]
    block = filling * (1 + (1 << 20) // len(filling))
    parts += [pack.compress(block) for _ in range(random.choice((2, 40, 100, 300)))]
    parts += [pack.compress(data[at:]), pack.flush()]
    return b"".join(parts)
