"""Near-duplicate clips of different patients or splits: the leak that no table shows.

Each clip has a fingerprint of 512 bits (`video.fingerprint`); two clips are near duplicates if few
of them differ, as they are, mirrored or cut one frame apart. The radius is a fifth of the bits,
too wide for look-up tables of bands, so all pairs are compared: exactly, as products of blocks of a
matrix of signs, which is what processors do fastest. Equal fingerprints are merged first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ffa_sora_jax.video import fingerprint

BLOCK = 2048  # clips against as many others at once: 16 MiB per matrix


@dataclass(frozen=True)
class Leak:
    """Clips that are almost the same and belong to different patients or splits.

    Attributes:
      members: positions of the clips, ascending.
      distance: fewest differing bits between two of them.
      splits: the splits they are in, in alphabetical order.
      num_groups: the number of patients (or reports) they come from.
    """

    members: tuple[int, ...]
    distance: int
    splits: tuple[str, ...]
    num_groups: int


def find(
    fingerprints: np.ndarray,
    groups: Sequence[str],
    splits: Sequence[str],
    max_bits: int = fingerprint.NEAR - 1,
) -> list[Leak]:
    """Clusters of near duplicates that hold more than one patient or split.

    Args:
      fingerprints: (n, 8) uint64, one row of `video.fingerprint.clip_fingerprint` per clip.
      groups: patient (or report) of every clip.
      splits: split of every clip.
      max_bits: r, the most bits in which near duplicates differ.

    Returns:
      Clusters in the order of their first clip. Clips are in one cluster if a chain of near
      duplicates links them.

    Raises:
      ValueError: lengths differ, or fingerprints are not (n, 8) uint64.
    """
    codes = np.asarray(fingerprints)
    if codes.ndim != 2 or codes.shape[1] != fingerprint.WORDS or codes.dtype != np.uint64:
        raise ValueError(
            f"Fingerprints are {codes.dtype} of shape {codes.shape}, not uint64 of shape "
            f"(n, {fingerprint.WORDS})."
        )
    if not len(codes) == len(groups) == len(splits):
        raise ValueError(f"{len(codes)} fingerprints, {len(groups)} groups, {len(splits)} splits.")
    if len(codes) < 2:
        return []
    unique, code_of = np.unique(codes, axis=0, return_inverse=True)
    code_of = code_of.reshape(-1)
    # A clip's owner: copies within one patient and split are no leak.
    pairs = [f"{group}\0{split}" for group, split in zip(groups, splits, strict=True)]
    owners = np.unique(pairs, return_inverse=True)[1]
    labels, nearest = _cluster(unique, _common_owner(code_of, owners, len(unique)), max_bits)
    clusters: dict[int, list[int]] = {}
    for clip, label in enumerate(labels[code_of]):
        clusters.setdefault(label, []).append(clip)
    return [
        Leak(
            members=tuple(members),
            distance=int(nearest[code_of[members]].min()),
            splits=tuple(sorted({splits[clip] for clip in members})),
            num_groups=len({groups[clip] for clip in members}),
        )
        for members in clusters.values()
        if len(set(owners[members])) > 1
    ]


def _common_owner(code_of: np.ndarray, owners: np.ndarray, num_codes: int) -> np.ndarray:
    """(codes,) the one owner of all clips with a code, or -1 where there are several."""
    low = np.full(num_codes, np.iinfo(np.int64).max)
    high = np.full(num_codes, -1)
    np.minimum.at(low, code_of, owners)
    np.maximum.at(high, code_of, owners)
    return np.where(low == high, high, -1)


def _cluster(codes: np.ndarray, owner: np.ndarray, max_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes,) cluster of every code, and its fewest bits to a code of another owner."""
    labels = np.arange(len(codes))
    far = np.iinfo(np.int32).max
    nearest = np.where(owner < 0, 0, far).astype(np.int32)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for rows, columns, distance in _distances(codes):
        near = distance <= max_bits
        if not near.any():
            continue
        crosses = near & ((owner[rows, None] != owner[None, columns]) | (owner[rows, None] < 0))
        bits = np.where(crosses, distance, far)
        nearest[rows] = np.minimum(nearest[rows], bits.min(axis=1))
        nearest[columns] = np.minimum(nearest[columns], bits.min(axis=0))
        i, j = np.nonzero(near)
        i, j = i + rows.start, j + columns.start
        news = labels[i] != labels[j]
        waiting.append((i[news], j[news]))
        if sum(len(pairs[0]) for pairs in waiting) > BLOCK**2:
            labels, waiting = _joined(labels, waiting), []
    return _joined(labels, waiting), nearest


def _distances(codes: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of differing bits of all pairs, each pair once; the rest of a block is D + 1.

    With bits as -1 and 1, a and b differ in (D - a.b) / 2 of D bits. Mirroring turns some bits,
    so with a.b = kept + turned the nearer one of b and its mirror image differs in
    (D - kept - |turned|) / 2.
    """
    num_bits = 64 * codes.shape[1]
    is_turned = _bits(fingerprint.mirrored(np.zeros_like(codes[:1])))[0].astype(bool)
    variants = [_bits(codes)]
    for frames in (1, -1):
        variants.append(_bits(np.stack([fingerprint.delayed(code, frames) for code in codes])))
    parts = [(bits[:, ~is_turned], bits[:, is_turned]) for bits in variants]
    for i in range(0, len(codes), BLOCK):
        rows = slice(i, min(i + BLOCK, len(codes)))
        kept, turned = (_signs(part[rows]) for part in parts[0])
        for j in range(i, len(codes), BLOCK):
            columns = slice(j, min(j + BLOCK, len(codes)))
            best = np.full((len(kept), columns.stop - j), -num_bits, np.float32)
            for kept_others, turned_others in parts:
                dot = np.abs(turned @ _signs(turned_others[columns]).T)
                dot += kept @ _signs(kept_others[columns]).T
                np.maximum(best, dot, out=best)
            distance = ((num_bits - best) / 2).astype(np.int32)
            if i == j:
                distance[np.tril_indices(len(distance))] = num_bits + 1
            yield rows, columns, distance


def _bits(codes: np.ndarray) -> np.ndarray:
    """(n, D) uint8 of 0 and 1."""
    return np.unpackbits(codes.view(np.uint8), axis=1)


def _signs(bits: np.ndarray) -> np.ndarray:
    """-1 and 1 as float32, in which sums of 512 of them are exact."""
    return bits.astype(np.float32) * 2 - 1


def _joined(labels: np.ndarray, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Labels after merging the clusters of each pair."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return labels
    size = len(labels)
    i, j = (labels[np.concatenate(ends)] for ends in zip(*pairs, strict=True))
    edges = coo_matrix((np.ones(len(i), bool), (i, j)), shape=(size, size))
    return connected_components(edges, directed=False)[1][labels]
