"""Folders of images as they come out of an archive."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from experiments.data import load
from experiments.errors import UsageError

pytestmark = pytest.mark.usefixtures("in_a_folder")


def png(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 4), shade).save(content, "PNG")
    return content.getvalue()


def split_folders(root: Path, **counts: int) -> None:
    for shade, (split, count) in enumerate(counts.items()):
        for number in range(count):
            path = root / split / ("cats", "dogs")[number % 2]
            path.mkdir(parents=True, exist_ok=True)
            (path / f"{number}.png").write_bytes(png(100 * shade + number))


def sizes_and_notes(root: Path) -> tuple[list[int], list[str]]:
    notes: list[str] = []
    try:
        return [len(part) for part in load("folder", root, say=notes.append)], notes
    except UsageError as error:
        return [], [str(error)]


def test_splits_one_folder_deeper_are_splits():
    """Unpacked beside its own name: data/animals/train/..., --data-root data."""
    split_folders(Path("data/animals"), train=12, test=4)
    sizes, _ = sizes_and_notes(Path("data"))
    assert sizes == [12, 4]


def test_training_and_testing_are_splits():
    """The names of the widespread mnist_png; they were taken for two classes."""
    split_folders(Path("x"), training=12, testing=4)
    sizes, _ = sizes_and_notes(Path("x"))
    assert sizes == [12, 4]


def test_pictures_in_both_splits_are_said():
    split_folders(Path("x"), train=12, test=4)
    for number in range(2):
        Path(f"x/test/cats/copy{number}.png").write_bytes(png(number))  # those of train/
    _, notes = sizes_and_notes(Path("x"))
    others = [note for note in notes if not note.startswith("train on")]
    assert others, "test pictures were trained on, in silence"


def test_names_of_classes_can_be_shown():
    """A folder's name in Latin-1, from an old archive; an npz with such labels is refused."""
    for name in (b"th\xe9", b"tea"):
        folder = os.path.join(b"x", name)
        os.makedirs(folder)
        for number in range(4):
            with open(os.path.join(folder, b"%d.png" % number), "wb") as file:
                file.write(png(50 * number))
    with pytest.raises(UsageError, match="cannot be shown"):
        load("folder", Path("x"))


@pytest.mark.parametrize("backwards", [False, True])
def test_a_link_to_a_class_is_no_class_in_whatever_order_a_disk_lists_them(backwards, monkeypatch):
    """Which of the two names was taken depended on the file system."""
    split_folders(Path("x"), all=8)
    for name in ("abyssinians", "tabbies"):
        Path("x/all", name).symlink_to("cats")
    listed = Path.iterdir

    def in_order(path: Path):
        return iter(sorted(listed(path), reverse=backwards))

    monkeypatch.setattr(Path, "iterdir", in_order)
    train, test = load("folder", Path("x/all"))
    assert train.source.classes == ("cats", "dogs")
    assert len(train) + len(test) == 8
