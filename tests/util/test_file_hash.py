"""Hashes of files, beside those of their bytes."""

import hashlib

import pytest

from gpurender.util import file_hash


@pytest.mark.parametrize("size", [0, 1, file_hash.BLOCK - 1, file_hash.BLOCK, file_hash.BLOCK + 1])
def test_a_file_has_the_hash_of_its_bytes(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert file_hash.sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_hash.sha256_of(tmp_path / "none")
