"""Server names in DNS form, and public keys in DNS labels.

A label `uz5` and 51 characters holds a public key: base 32, least significant bits first, as DNSCurve writes them.
"""

from __future__ import annotations

from ...properties.words import refuse
from .limits import KEY, NAME

__all__ = ["encode_name", "key_label", "key_of_name", "name_text"]

MAX_LABEL = 63  # RFC 1035 §2.3.4
LABEL_PREFIX = "uz5"
LABEL_SIZE = 54
_DIGITS = "0123456789bcdfghjklmnpqrstuvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}


def encode_name(name: str) -> bytes:
    """256 octets: labels behind their lengths, then zeros. Dots in front or twice are skipped, as the reference does.

    ConfigurationError: a label above 63 octets, a name above 255, or not ASCII.
    """
    encoded = bytearray()
    for label in name.split("."):
        octets = label.encode("ascii", "replace") if label.isascii() else b"\xff" * NAME
        if len(octets) > MAX_LABEL:
            refuse("CurveCP server name", name, "ASCII labels of at most 63 octets")
        if octets:
            encoded += bytes((len(octets),)) + octets
    if len(encoded) >= NAME:
        refuse("CurveCP server name", name, "at most 254 characters")
    return bytes(encoded).ljust(NAME, b"\0")


def name_text(encoded: bytes) -> str:
    """The name of an encoded one, for people; what is no name stands in hex."""
    labels, position = [], 0
    while position < len(encoded) and encoded[position]:
        length = encoded[position]
        label = encoded[position + 1 : position + 1 + length].decode("latin-1")
        if length > MAX_LABEL or len(label) < length or not (label.isascii() and label.isprintable()):
            return encoded.hex()  # a terminal's escapes, say: whoever sent it chose the octets
        labels.append(label)
        position += 1 + length
    return ".".join(labels)


def key_label(key: bytes) -> str:
    """The label that holds a public key of 32 octets, whose highest bit is ignored as X25519 does."""
    number = int.from_bytes(key, "little") & (1 << 255) - 1
    return LABEL_PREFIX + "".join(_DIGITS[number >> shift & 31] for shift in range(0, 255, 5))


def key_of_name(name: str) -> bytes | None:
    """The key in the first label of `name` that holds one, or None."""
    for label in name.lower().split("."):
        if len(label) == LABEL_SIZE and label.startswith(LABEL_PREFIX):
            number = 0
            for place, digit in enumerate(label[len(LABEL_PREFIX) :]):
                if digit not in _VALUES:
                    break
                number |= _VALUES[digit] << 5 * place
            else:
                return number.to_bytes(KEY, "little")
    return None
