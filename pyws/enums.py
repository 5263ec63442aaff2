# SPDX-License-Identifier: MIT
"""The constants of the public interface: opcodes, results of a send, compression settings."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["COMPRESSOR_BITS", "DECOMPRESSOR_BITS", "CompressOptions", "OpCode", "SendStatus"]

COMPRESSOR_BITS = 0x0FF
DECOMPRESSOR_BITS = 0xF00


class OpCode(IntEnum):
    """Kinds of frames (RFC 6455 section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class SendStatus(IntEnum):
    """What became of a message given to ``send``."""

    BACKPRESSURE = 0
    """It is queued, because the kernel's buffer is full. A ``drain`` event follows."""
    SUCCESS = 1
    """The kernel has it, or it is corked and will leave at the end of the handler."""
    DROPPED = 2
    """Nothing was sent: the queue exceeds ``max_backpressure``, or the client is gone."""


class CompressOptions(IntEnum):
    """permessage-deflate settings; one compressor may be or-ed with one decompressor.

    Bits 0-3 hold zlib's memLevel and bits 4-7 the windowBits of the compressor, bits 8-11 the
    windowBits of the decompressor.
    """

    DISABLED = 0
    SHARED_COMPRESSOR = 1
    SHARED_DECOMPRESSOR = 256
    DEDICATED_DECOMPRESSOR_512B = 2304
    DEDICATED_DECOMPRESSOR_1KB = 2560
    DEDICATED_DECOMPRESSOR_2KB = 2816
    DEDICATED_DECOMPRESSOR_4KB = 3072
    DEDICATED_DECOMPRESSOR_8KB = 3328
    DEDICATED_DECOMPRESSOR_16KB = 3584
    DEDICATED_DECOMPRESSOR_32KB = 3840
    DEDICATED_DECOMPRESSOR = 3840
    DEDICATED_COMPRESSOR_3KB = 145
    DEDICATED_COMPRESSOR_4KB = 146
    DEDICATED_COMPRESSOR_8KB = 163
    DEDICATED_COMPRESSOR_16KB = 180
    DEDICATED_COMPRESSOR_32KB = 197
    DEDICATED_COMPRESSOR_64KB = 214
    DEDICATED_COMPRESSOR_128KB = 231
    DEDICATED_COMPRESSOR_256KB = 248
    DEDICATED_COMPRESSOR = 248

    def __or__(self, other: int) -> int:
        """Combine a compressor and a decompressor.

        Raises:
            ValueError: There are two of a kind, whose bits would merge into those of a third one.
        """
        if not isinstance(other, int):
            return NotImplemented
        mine, theirs = int(self), int(other)
        for bits, kind in ((COMPRESSOR_BITS, "compressors"), (DECOMPRESSOR_BITS, "decompressors")):
            if mine & bits and theirs & bits and mine & bits != theirs & bits:
                raise ValueError(f"two {kind} cannot be or-ed: {mine:#x} | {theirs:#x}")
        return mine | theirs

    __ror__ = __or__
