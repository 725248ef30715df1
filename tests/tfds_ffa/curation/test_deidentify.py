"""The salt stays outside and private; hashes are stable; errors quote nothing."""

import multiprocessing
import os
import pickle
import stat

import pytest

from tfds_ffa.curation.deidentify import Hasher, open_salt


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "home.salt", tmp_path / "data"


def test_the_salt_is_made_once_and_private(folders):
    salt, data = folders
    old = os.umask(0)
    try:
        first = open_salt(salt, data)
    finally:
        os.umask(old)
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    content = salt.read_text()
    assert open_salt(salt, data).hashed("exam", "E1") == first.hashed("exam", "E1")
    assert salt.read_text() == content and first.fingerprint == open_salt(salt, data).fingerprint
    assert [path.name for path in salt.parent.iterdir() if path.is_file()] == ["home.salt"]


def test_other_salts_give_other_hashes(folders):
    salt, data = folders
    hashes = {open_salt(salt.with_suffix(f".{i}"), data).hashed("exam", "E1") for i in range(5)}
    assert len(hashes) == 5


@pytest.mark.parametrize("place", ["data/salt", "data/sub/../salt", "data/new/salt", "link/salt"])
def test_no_salt_in_the_dataset(folders, place):
    salt, data = folders
    (salt.parent / "link").symlink_to(data)
    with pytest.raises(ValueError, match="outside"):
        open_salt(salt.parent / place, data)
    assert not list(data.rglob("*"))
    with pytest.raises(ValueError, match="outside"):  # the dataset need not exist yet
        open_salt(salt.parent / "later" / "salt", salt.parent / "later")


def test_a_link_into_the_dataset_is_no_way_round(folders):
    salt, data = folders
    salt.symlink_to(data / "inside")
    with pytest.raises(ValueError, match="outside"):
        open_salt(salt, data)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_salt_that_others_may_read_is_refused(folders, mode):
    salt, data = folders
    open_salt(salt, data)
    salt.chmod(mode)
    with pytest.raises(ValueError, match="chmod 600"):
        open_salt(salt, data)


@pytest.mark.parametrize("content", [b"", b"hello", b"ffa-sora salt 1\n", b"\xff" * 99])
def test_another_file_is_no_salt(folders, content):
    salt, data = folders
    salt.write_bytes(content)
    salt.chmod(0o600)
    with pytest.raises(ValueError, match="damaged or is another file"):
        open_salt(salt, data)
    assert salt.read_bytes() == content


def test_a_truncated_salt_is_noticed(folders):
    salt, data = folders
    open_salt(salt, data)
    salt.write_bytes(salt.read_bytes()[:-3])
    with pytest.raises(ValueError, match="Restore it"):
        open_salt(salt, data)


def test_the_folder_must_exist(folders):
    salt, data = folders
    with pytest.raises(FileNotFoundError, match="create it first"):
        open_salt(salt.parent / "none" / "salt", data)


def _fingerprint(folders):
    return open_salt(*folders).fingerprint


def test_processes_that_start_together_share_one_salt(folders):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert len(set(pool.map(_fingerprint, [folders] * 32, chunksize=1))) == 1


def test_hashes():
    hasher = Hasher(bytes(32))
    # Pinned: another value would give all exams of all datasets other ids and splits.
    assert hasher.hashed("exam", "E1") == "41d5a82a198c8e355e561e16c4e100b8"
    assert hasher.hashed("exam", "E1") != hasher.hashed("patient", "E1")
    assert hasher.hashed("exam", " Mu\u0308ller ") == hasher.hashed("exam", "M\u00fcller")
    assert hasher.hashed("exam", os.fsdecode(b"\xff"))
    assert pickle.loads(pickle.dumps(hasher)).hashed("exam", "E1") == hasher.hashed("exam", "E1")
    assert "0" * 16 not in repr(hasher)
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        Hasher(b"abc")
