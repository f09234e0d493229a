"""A store of a teacher's embeddings of pairs, or of images and sentences that are no pairs, written before training."""

import hashlib
import json
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from cliptd.data.bad_samples import BadSample
from cliptd.data.identity import state_of
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs
from cliptd.embedding.crops import DrawnCrops, pil_image
from cliptd.store.reader import TeacherStore
from cliptd.store.writer import StoreWriter, absorb_parts
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.unpaired.images_and_sentences import Images, Sentences, UnpairedPairs
from cliptd.utils.files import write_atomically
from cliptd.utils.read_ahead import batches, read_ahead


def store_pairs(
    path: str | Path,
    teacher: Teacher | TeacherEnsemble,
    pairs: OpenedPairs,
    *,
    batch_size: int = 256,
    accelerator: Accelerator | None = None,
) -> list[str]:
    """Write the teacher's embeddings of every pair's text and of its image or its drawn crops.

    Embeddings that the store holds are not computed again, and their images are not opened. A complete pass over data
    is noted in the store, and the same data are not read again. `UnpairedPairs` are read once on each side. After a
    kill the same call goes on after the last whole shard.

    Args:
        path: the folder of the store.
        batch_size: the number of pairs that are embedded together, while as many are read ahead. For a single teacher
            transformed images are in memory, for an ensemble whole ones.
        accelerator: shares the pairs between its processes, which all make this call. Each process writes a store of
            its own, and the main process merges them.

    Returns: the reasons of the pairs that could not be read, the same on every process.
    """
    path = Path(path)
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    if rank == 0:
        absorb_parts(path, teacher)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    before = _Pass(path, teacher, pairs)
    if before.is_noted():
        return []
    own = path if processes == 1 else path / f"part-{rank}"
    bad = _Filling(own, path, teacher, batch_size).fill(pairs, rank, processes)
    if accelerator is not None:
        accelerator.wait_for_everyone()
        bad = gather_object(bad) if processes > 1 else bad
    if rank == 0:
        if processes > 1:
            absorb_parts(path, teacher)
        if not bad:
            before.note()
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return bad


class _Pass:
    """A note in the store that these data were read to the end and nothing was skipped."""

    def __init__(self, path: Path, teacher: Teacher | TeacherEnsemble, pairs: OpenedPairs) -> None:
        self.path, self.teacher = path, teacher
        data, crop = pairs.pairs, pairs.crop
        self.of = {
            # None: the data may change unnoticed, so they are read every time
            "data": state_of(data),
            "keys": [_key(data, index) for index in sorted({0, len(data) // 2, len(data) - 1})],
            "crops": f"{crop.count} of {crop.name}" if isinstance(crop, DrawnCrops) else None,
        }
        digest = hashlib.sha256(json.dumps(self.of).encode()).hexdigest()[:16]
        self.file = path / "passes" / f"{digest}.json"

    def is_noted(self) -> bool:
        """Return whether there was such a pass and the store still holds at least as many embeddings as then."""
        if self.of["data"] is None or not self.file.exists():
            return False
        counts = TeacherStore.open(self.path, self.teacher).counts
        found = json.loads(self.file.read_text(encoding="utf-8"))["counts"]
        return all(counts[kind] >= n for kind, n in found.items())

    def note(self) -> None:
        """Write the note. A store that cannot be written is complete without it."""
        if self.of["data"] is not None and (self.path / "index.json").exists():
            counts = TeacherStore.open(self.path, self.teacher).counts
            with suppress(OSError):
                self.file.parent.mkdir(exist_ok=True)
                write_atomically(self.file, json.dumps({"of": self.of, "counts": counts}, indent=1))


def _key(data: MapStyle[Pair], index: int) -> str | None:
    try:
        return data[index].key
    except (ValueError, OSError, IndexError):
        return None


class _Filling:
    """Writes the embeddings to a store that neither it nor the known store holds.

    A complete store is not opened for writing, so any number of runs may share it.
    """

    def __init__(self, path: Path, known: Path, teacher: Teacher | TeacherEnsemble, batch_size: int) -> None:
        self.path, self.teacher, self.batch_size = path, teacher, batch_size
        self.held = TeacherStore.open(known, teacher) if (known / "index.json").exists() else None
        self.writer: StoreWriter | None = None
        self.stack = ExitStack()
        self.underway: set[str] = set()
        self.lock = threading.Lock()

    def fill(self, pairs: OpenedPairs, rank: int, processes: int) -> list[str]:
        """Read this process's share of the pairs and return the reasons of those that could not be read."""

        def share(count: int) -> range:
            return range(count * rank // processes, count * (rank + 1) // processes)

        with self.stack:
            data = pairs.pairs
            if not isinstance(data, UnpairedPairs):
                return self._pairs(pairs, share(len(data)))
            images = OpenedPairs(_Alone(data.images), crop=pairs.crop, on_bad_sample=pairs.on_bad_sample)
            bad = self._pairs(images, share(len(data.images)))
            return bad + self._sentences(data.sentences, share(len(data.sentences)))

    def _pairs(self, pairs: OpenedPairs, positions: range) -> list[str]:
        teacher = (
            self.teacher if isinstance(self.teacher, Teacher) else None
        )  # an ensemble has several transforms

        def read(position: int) -> tuple[str, list[Pair]] | BadSample:
            own: list[str] = []
            found = pairs.lacking(position, lambda key: self._lacks(key, own))
            if isinstance(found, BadSample):
                with self.lock:
                    self.underway.difference_update(own)
            if isinstance(found, BadSample) or teacher is None:
                return found
            text, views = found
            return text, [
                view._replace(image=teacher.pixels([pil_image(view)], [view.key])[0]) for view in views
            ]

        bad: list[str] = []
        found = read_ahead(read, positions, ahead=self.batch_size)
        for some in batches(tqdm(found, "teacher", len(positions), disable=None), self.batch_size):
            bad += [one.reason for one in some if isinstance(one, BadSample)]
            good = [one for one in some if not isinstance(one, BadSample)]
            views = [view for _, own in good for view in own]
            self._write(views, [text for text, _ in good if text])
        return bad

    def _sentences(self, sentences: Sentences, positions: range) -> list[str]:
        known = len(getattr(sentences, "skipped", ()))
        starts = positions[:: self.batch_size]
        for start in tqdm(starts, "teacher, sentences", disable=None):
            texts = sentences.part(start, min(start + self.batch_size, positions.stop))
            self._write([], [text for text in texts if text])
        return list(getattr(sentences, "skipped", ()))[known:]

    def _lacks(self, key: str, own: list[str]) -> bool:
        """Return whether an image must be embedded, and if so add its key to `own`, its reader's keys.

        An image that another reader is reading need not be.
        """
        with self.lock:
            lacks = key not in self.underway
            lacks = lacks and (self.held is None or self.held.lacks(key))
            lacks = lacks and (self.writer is None or self.writer.lacks(key))
            if lacks:
                self.underway.add(key)
                own.append(key)
            return lacks

    def _write(self, views: Sequence[Pair], texts: Sequence[str]) -> None:
        texts = [text for text in texts if self.held is None or self.held.lacks(text, "texts")]
        if not (views or texts):
            return
        if self.writer is None:
            self.writer = self.stack.enter_context(StoreWriter(self.path, self.teacher))
        keys = [view.key for view in views]
        self.writer.image_embeds(keys, [view.image for view in views])
        self.writer.text_embeds(texts)
        with self.lock:
            self.underway.difference_update(keys)


class _Alone:
    """A map-style data set of images as pairs with an empty text."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pair:
        return Pair(*self.images[index], "")
