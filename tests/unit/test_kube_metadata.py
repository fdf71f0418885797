"""Names and uids from a list of metadata, as protobuf and as JSON; on a real API server: tests/faults."""

from __future__ import annotations

import json

import pytest

from daas_hub.clients.kube_metadata import UnfitMetadata, names_and_uids


def number(value: int) -> bytes:
    """A number as protobuf has it: seven bits a byte, the lowest first."""
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def field(key: int, content: bytes) -> bytes:
    return number(key << 3 | 2) + number(len(content)) + content


def item(name: str, uid: str) -> bytes:
    """An object with what stands before and after the uid, also fields that are no text."""
    large = field(17, b"x" * 300)
    meta = field(1, name.encode()) + field(3, b"space") + field(5, uid.encode()) + number(7 << 3) + number(300) + large
    return field(2, field(1, meta))


def answer(content: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, b"meta.k8s.io/v1")) + field(2, content) + field(4, b"")


ITEMS = item("a", "uid-a") + item("b" * 200, "uid-b")


@pytest.mark.parametrize("follow", ["", "next"])
def test_a_page_of_protobuf(follow: str) -> None:
    listed = field(2, b"77") + field(3, follow.encode()) + number(4 << 3) + number(5)
    skipped = number(9 << 3 | 1) + b"12345678" + number(10 << 3 | 5) + b"1234"
    assert names_and_uids(answer(field(1, listed) + skipped + ITEMS)) == (
        [("a", "uid-a"), ("b" * 200, "uid-b")],
        follow,
    )


def test_a_page_of_json_where_protobuf_is_not_given() -> None:
    items = [{"metadata": {"name": "a", "uid": "uid-a"}}]
    assert names_and_uids(json.dumps({"metadata": {"continue": "next"}, "items": items}).encode()) == (
        [("a", "uid-a")],
        "next",
    )
    assert names_and_uids(b'{"items": null}') == ([], "")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"items": [{"metadata": {"name": "a"}}]}',
        b"<html>",
        b"k8s\x00",
        answer(ITEMS)[:-20][:60],
        answer(item("a", "uid-a")[:-5]),
        answer(field(2, field(1, field(1, b"a")))),
        answer(field(2, b"")),
        b"k8s\x00" + b"\xff" * 12,
        b"k8s\x00" + number(2 << 3 | 3),
    ],
)
def test_what_is_no_such_page_is_refused(raw: bytes) -> None:
    with pytest.raises(UnfitMetadata):
        names_and_uids(raw)
