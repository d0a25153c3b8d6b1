"""Texts of users' files: UTF-8, with or without the byte-order mark that some editors write first."""

import codecs
import os

MARK = "\ufeff"
OTHERS = {  # the longer marks first: a UTF-32 mark begins with the UTF-16 mark
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file, without its byte-order mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not UTF-8; the message names the encoding, if a byte-order mark shows it.
    """
    with open(path, "rb") as file:
        data = file.read()
    for mark, name in OTHERS.items():
        if data.startswith(mark):
            raise ValueError(f"it is {name} and must be UTF-8: save it so")
    try:
        return data.decode("utf-8").removeprefix(MARK)
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise ValueError(f"it must be UTF-8, and byte {error.start} ({byte:#04x}) is not: save it so") from None
