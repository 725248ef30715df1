"""Outcomes on disk: whole or absent, checked, and bound to what decided them."""

import numpy as np
import pytest

from tfds_ffa.curation import ledger
from tfds_ffa.curation.ledger import Ledger, Outcome

KEY, DIGEST = "ab" * 16, "0123456789abcdef"


def kept(key=KEY, **facts):
    arrays = {
        "video": np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8),
        "vessel_ratio": np.array([0.1, np.nan, 0.2], np.float32),
        "is_original": np.array([True, False, True]),
    }
    return Outcome(key, "kept", facts=facts, arrays=arrays)


def test_an_outcome_comes_back_as_it_was(tmp_path):
    book = Ledger(tmp_path)
    book.write(kept(kind="frames", frames=[{"index": 0, "vessel_ratio": None}]), DIGEST)
    found = book.read(KEY, DIGEST)
    assert (found.status, found.reason) == ("kept", "")
    assert found.facts == {"kind": "frames", "frames": [{"index": 0, "vessel_ratio": None}]}
    for name, array in kept().arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert not book.read(KEY, DIGEST, arrays=False).arrays
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_digest_is_another_outcome(tmp_path):
    book = Ledger(tmp_path)
    book.write(kept(), DIGEST)
    assert book.read(KEY, "f" * 16) is None
    book.write(Outcome(KEY, "dropped", "truncated"), "f" * 16)
    assert book.read(KEY, DIGEST).status == "kept"
    book.remove_others({KEY: "f" * 16})
    assert book.read(KEY, DIGEST) is None and book.read(KEY, "f" * 16).reason == "truncated"


def test_removing_leaves_what_others_have_put_there(tmp_path):
    book = Ledger(tmp_path)
    for digest in (DIGEST, "f" * 16):
        book.write(kept(), digest)
    book.remove({KEY: DIGEST})
    assert [path.name for path in book.files()] == [f"{KEY}-{'f' * 16}.exam"]
    book.remove({KEY: "f" * 16})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 30, 200, -1])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, place):
    book = Ledger(tmp_path)
    book.write(kept(kind="frames"), DIGEST)
    path = book.path(KEY, DIGEST)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    assert book.read(KEY, DIGEST) is None
    assert not path.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_short_is_noticed(tmp_path, share):
    book = Ledger(tmp_path)
    book.write(kept(), DIGEST)
    path = book.path(KEY, DIGEST)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert book.read(KEY, DIGEST) is None


def test_a_file_of_another_exam_under_this_name_is_not_believed(tmp_path):
    book = Ledger(tmp_path)
    book.write(kept("cd" * 16), DIGEST)
    path = book.path(KEY, DIGEST)
    path.parent.mkdir(parents=True)
    book.path("cd" * 16, DIGEST).rename(path)
    assert book.read(KEY, DIGEST) is None


def test_faults_of_the_machine_are_tried_again(tmp_path):
    book = Ledger(tmp_path)
    wanted = {}
    for n, (status, reason) in enumerate(
        [("quarantined", "time_limit"), ("quarantined", "worker_died"), ("dropped", "truncated")]
    ):
        key = f"{n:02d}" * 16
        wanted[key] = DIGEST
        book.write(Outcome(key, status, reason), DIGEST)
    assert list(book.finished(wanted)) == ["02" * 16]


@pytest.mark.parametrize(("status", "reason"), [("kept", "truncated"), ("dropped", ""), ("no", "")])
def test_status_and_reason_must_agree(status, reason):
    with pytest.raises(ValueError, match="status"):
        Outcome(KEY, status, reason)


def test_counts_start_with_what_was_kept_and_add_up():
    outcomes = [kept()] + [Outcome(KEY, "dropped", "truncated")] * 3
    outcomes += [Outcome(KEY, "quarantined", "burned_in_text")] * 2
    found = ledger.count(outcomes)
    assert list(found.items()) == [("kept", 1), ("truncated", 3), ("burned_in_text", 2)]
    assert sum(found.values()) == len(outcomes)
