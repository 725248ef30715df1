"""What lies in an exam folder: files and folders of frames, links followed but never out or round.

The whole tree is walked once. Of a folder of frames only the number of frames is kept, and the
names that the table asks for, so that archives of millions of frames fit into memory.
"""

import errno
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Beside exams, never one. A file without extension may be DICOM.
SIDECARS = {
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".xlsx", ".xls", ".md", ".html", ".htm",
    ".pdf", ".doc", ".docx", ".db", ".ini", ".log", ".lnk", ".url", ".yaml", ".yml", ".salt",
}  # fmt: skip
SIDECAR_NAMES = {"thumbs.db", "desktop.ini", "dicomdir"}
SYSTEM_FOLDERS = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip
# A folder of these is one exam, in contrast to a folder of videos.
FRAMES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".jp2", ".dcm", ".dicom", ".ima", ""}


@dataclass
class Folder:
    """One folder of the tree.

    Attributes:
      path: where it was found, links on the way resolved.
      num_frames: files in it that may be frames or DICOM.
      others: names of its videos and animations; in the root, of all its files.
      folders: the folders in it.
      links: the folders that links in it lead to; they are walked at their own places.
    """

    path: Path
    num_frames: int = 0
    others: list[str] = field(default_factory=list)
    folders: list["Folder"] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Defect:
    """Something of the tree that cannot be an exam: a code of `reasons`."""

    path: Path
    reason: str


@dataclass
class Tree:
    """The folders below a root, and where the names that were asked for are.

    Attributes:
      root: the exam folder, resolved.
      top: its tree.
      folders_named, files_named: name -> paths, links resolved; a file also goes by its name
        without extension.
      defects_named, defects: what cannot be an exam, by name and all.
    """

    root: Path
    top: Folder
    folders_named: dict[str, list[Path]]
    files_named: dict[str, list[Path]]
    defects_named: dict[str, list[Defect]]
    defects: list[Defect]


def walk(root: Path, names: Collection[str], skip: Collection[Path] = ()) -> Tree:
    """Walks the exam folder.

    Args:
      root: the exam folder; may itself be a link.
      names: exam ids of the table, in Unicode composition NFC.
      skip: files or folders in it that are no exams, such as the table or the dataset.

    Raises:
      FileNotFoundError: `root` is no folder.
    """
    if not root.is_dir():
        raise FileNotFoundError("The exam folder does not exist or is no folder.")
    root = Path(os.path.realpath(root))
    tree = Tree(root, Folder(root), defaultdict(list), defaultdict(list), defaultdict(list), [])
    _Walk(tree, set(names), {Path(os.path.realpath(path)) for path in skip}).run()
    return tree


def is_sidecar(entry: os.DirEntry[str]) -> bool:
    """Whether a file or folder is passed over: hidden, of the system, or beside exams."""
    lower = entry.name.lower()
    if lower.startswith("."):
        return True
    if entry.is_dir():
        return lower in SYSTEM_FOLDERS
    return lower in SIDECAR_NAMES or suffix(lower) in SIDECARS


def may_be_frame(name: str) -> bool:
    """Whether a file of this name in a folder may be a frame, or one DICOM file of several."""
    return suffix(name.lower()) in FRAMES


def files_of(folder: Path) -> Iterator[Path]:
    """Files directly in a folder that may be exams or frames."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir() and not is_sidecar(entry):
                yield folder / entry.name


def composed(name: str) -> str:
    """A name in the one spelling by which names are compared."""
    return unicodedata.normalize("NFC", name)


def reason_of(error: OSError) -> str:
    """The code for a path that the system refuses."""
    codes = {errno.ELOOP: "symlink_loop", errno.ENAMETOOLONG: "name_too_long"}
    return codes.get(error.errno or 0, "unreadable")


class _Walk:
    def __init__(self, tree: Tree, names: set[str], skip: set[Path]):
        self.tree, self.names, self.skip = tree, names, skip

    def run(self) -> None:
        # Each with the identities of the folders above it: a link to one of those is a loop.
        waiting = [(self.tree.top, frozenset([_identity(self.tree.root)]))]
        while waiting:
            folder, above = waiting.pop()
            try:
                with os.scandir(folder.path) as entries:
                    for entry in entries:
                        self._entry(folder, entry, above)
            except OSError as error:
                self._defect(folder.path, reason_of(error))
            for inner in folder.folders:
                waiting.append((inner, above | {_identity(inner.path)}))

    def _entry(self, folder: Folder, entry: os.DirEntry[str], above: frozenset[object]) -> None:
        path = folder.path / entry.name
        try:
            if is_sidecar(entry) or path in self.skip:
                return
            if entry.is_symlink() and not self._is_good_link(path, above):
                return
            if entry.is_dir():
                real = Path(os.path.realpath(path)) if entry.is_symlink() else path
                self._note(self.tree.folders_named, entry.name, real, is_file=False)
                if real == path:
                    folder.folders.append(Folder(path))
                else:
                    folder.links.append(real)
            elif entry.is_file():
                self._file(folder, entry, path)
            else:  # a pipe or a device, which must not be opened: it might block for ever
                self._defect(path, "unknown_format")
        except OSError as error:
            self._defect(path, reason_of(error))

    def _file(self, folder: Folder, entry: os.DirEntry[str], path: Path) -> None:
        if folder is not self.tree.top and may_be_frame(entry.name):
            folder.num_frames += 1
        elif not entry.is_symlink():  # else its target is the exam
            folder.others.append(entry.name)
        real = Path(os.path.realpath(path)) if entry.is_symlink() else path
        self._note(self.tree.files_named, entry.name, real, is_file=True)

    def _is_good_link(self, path: Path, above: frozenset[object]) -> bool:
        target = Path(os.path.realpath(path, strict=True))  # raises where it leads nowhere
        if not target.is_relative_to(self.tree.root):
            self._defect(path, "outside_root")
        elif target.is_dir() and _identity(target) in above:
            self._defect(path, "symlink_loop")
        else:
            return True
        return False

    def _defect(self, path: Path, reason: str) -> None:
        defect = Defect(path, reason)
        self.tree.defects.append(defect)
        self._note(self.tree.defects_named, path.name, defect, is_file=True)

    def _note(self, index: dict, name: str, value: object, is_file: bool) -> None:
        name = composed(name)
        for key in {name, Path(name).stem} if is_file else {name}:
            if key in self.names:
                index[key].append(value)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def suffix(name: str) -> str:
    """The extension, "" where it is none: DICOM files may be called 1.2.840.10008."""
    found = Path(name).suffix
    return "" if found[1:].isdigit() else found
