"""Names and uids from a list of metadata, read from protobuf without building the rest.

Metadata have managedFields, some 8 KB of a pod; as JSON their dicts cost a second of the loop for 5,000 pods, and
collecting that garbage stops it. Of protobuf only the lengths before what is skipped are read. The messages are those
of ``apimachinery`` (``generated.proto`` of ``runtime`` and ``meta/v1``; numbers of fields never change), the encoding
is protobuf's own ("Encoding" in its documentation).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from .kube import JSON, METADATA

ACCEPT = f"{METADATA.replace('application/json', 'application/vnd.kubernetes.protobuf')},{METADATA},{JSON}"
_MAGIC = b"k8s\x00"
_RAW = 2
"""Of runtime.Unknown, around every answer."""
_LIST, _ITEMS, _CONTINUE = 1, 2, 3
"""Of PartialObjectMetadataList its ListMeta and items; of that the token of the next page."""
_META, _NAME, _UID = 1, 1, 5
"""Of PartialObjectMetadata its ObjectMeta; of that name and uid."""


class UnfitMetadata(Exception):
    """What came is no list of metadata; the text says why."""


def names_and_uids(raw: bytes) -> tuple[list[tuple[str, str]], str]:
    """Of a page, and the token of the next one, empty at the end. JSON is read, too. Raises UnfitMetadata."""
    try:
        return _read(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitMetadata(f"no list of metadata: {type(error).__name__}: {error}") from error


def _read(raw: bytes) -> tuple[list[tuple[str, str]], str]:
    if not raw.startswith(_MAGIC):
        page = json.loads(raw)
        found = [(item["metadata"]["name"], item["metadata"]["uid"]) for item in page.get("items") or ()]
        return found, (page.get("metadata") or {}).get("continue") or ""
    view = memoryview(raw)[len(_MAGIC) :]
    items, follow = [], ""
    for number, part in _fields(_only(view, _RAW)):
        if number == _ITEMS:
            items.append(_identity(_only(part, _META)))
        elif number == _LIST:
            follow = next((str(text, "utf-8") for key, text in _fields(part) if key == _CONTINUE), "")
    return items, follow


def _identity(meta: memoryview) -> tuple[str, str]:
    name = ""
    for number, part in _fields(meta):
        if number == _NAME:
            name = str(part, "utf-8")
        elif number == _UID:
            # Fields come in the order of their numbers: all that is large comes later.
            return name, str(part, "utf-8")
    raise ValueError("an object has no uid")


def _only(message: memoryview, wanted: int) -> memoryview:
    for number, part in _fields(message):
        if number == wanted:
            return part
    raise ValueError(f"a message has no field {wanted}")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field with a length; numbers are skipped."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                length, at = _varint(message, at)
                if at + length > end:
                    raise ValueError("a field is longer than its message")
                yield key >> 3, message[at : at + length]
                at += length
            case kind:
                raise ValueError(f"a field of kind {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a number is cut off or too long")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
