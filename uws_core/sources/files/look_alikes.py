"""Says what a file is that bears the name of a weights file and is none: a pointer, a web page, another format."""

from __future__ import annotations

import re
from typing import Final

# Enough for the title of a page and the size in a pointer.
FIRST_BYTES: Final = 512
# Text of no known kind.
TEXT: Final = "a text that begins with"
_POINTER: Final = b"version https://git-lfs.github.com/spec"
_STARTS: Final = (
    (b"GGUF", "a GGUF file under another name"),
    (b"PK\x03\x04", "a zip archive, as torch saves pickled weights in"),
    (b"\x80\x02", "a pickled file under another name"),
    (b"\x80\x04", "a pickled file under another name"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"\x89HDF", "an HDF5 file under another name"),
    (b"\x93NUMPY", "a numpy file under another name"),
    (b"BZh", "a bzip2 archive; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
)


def what_is(first: bytes, size: int) -> str:
    """What a file that begins with these bytes is, when it is a known kind of no weights file; else nothing."""
    if first.startswith(_POINTER):
        told = re.search(rb"size (\d{1,18})", first)
        amount = f" of {int(told[1]):,} bytes" if told else ""
        return f"a git-lfs pointer, not the weights{amount} it stands for; run `git lfs pull` in its repository"
    if known := next((kind for start, kind in _STARTS if first.startswith(start)), ""):
        return known
    if not any(first):
        return "it begins with zeros alone: the download was begun and not finished"
    # What a file of text is: a page, an answer of a server, or other text.
    try:
        # The last character may be cut.
        text = first.decode("utf-8", "ignore" if size > len(first) else "strict").lstrip("\ufeff \t\r\n")
    except UnicodeDecodeError:
        return ""
    if not text or any(not sign.isprintable() and not sign.isspace() for sign in text):
        return ""
    start = text[:200].casefold()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        title = re.search(r"<title>(.{1,80}?)</title>", text, re.IGNORECASE | re.DOTALL)
        named = f" titled {' '.join(title[1].split())!r}" if title else ""
        return f"an HTML page{named}, saved in place of the weights; download the file again, signed in if need be"
    if start.startswith("<"):
        return f"an XML text that begins with {text[:40]!r}, saved in place of the weights; download the file again"
    if start.startswith(("{", "[")):
        return f"a JSON text that begins with {text[:40]!r}, no weights; download the file again"
    return f"{TEXT} {text[:40]!r}"
