"""The catalogue: which data sets there are, what is in them, and where each clip came from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from data_curation.catalogue import entities as e
from data_curation.catalogue.documents import Document, DocumentStore, SQLiteStore, Where
from data_curation.catalogue.mongo import MongoStore
from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.layout import VERSION_FOLDER
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.home import expanded
from nemo_cosmos.storage import is_url

ItemT = TypeVar("ItemT")

SUMMARY_FILE = "summary.json"
REJECTED_FILE = "rejected.jsonl"
_METADATA_FIELDS = ("scores.", "extra.")
_LOOKUPS = 500


@dataclass(frozen=True)
class Difference:
    """How one version differs from another.

    Attributes:
        added: keys of clips that only the second has.
        removed: keys of clips that only the first has.
        changed: keys of clips whose content differs.
        settings: the two values of each setting, by its name.
    """

    added: list[str]
    removed: list[str]
    changed: list[str]
    settings: dict[str, tuple[Any, Any]]


def open_catalogue(location: str | os.PathLike[str]) -> Catalogue:
    """Open a catalogue, or begin one.

    Args:
        location: a file for the embedded database, or a ``mongodb://`` URL.

    Raises:
        ConfigError: the file is no catalogue, or no server answers.
        MissingDependencyError: pymongo is not installed.
    """
    name = os.fspath(location)
    if name.startswith(("mongodb://", "mongodb+srv://")):
        return Catalogue(MongoStore(name))
    return Catalogue(SQLiteStore(expanded(name)))


class Catalogue:
    """Versions of data sets over a store of documents. Use it as a context manager.

    Args:
        store: the database.
        now: gives the time, for tests.
    """

    def __init__(
        self, store: DocumentStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.store = store
        self.now = now

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def add(
        self, output: str | os.PathLike[str], name: str, source: str | os.PathLike[str] = ""
    ) -> Document:
        """Remember a curated folder as the next version of a data set.

        The version is written last: a run that is killed leaves none, and the same call completes
        it. A folder that holds what a version holds already gives that version.

        Args:
            output: the folder that ``nemo-cosmos curate`` wrote.
            name: the data set's name.
            source: the input folder of that run, on disk or in a bucket, so that a sample can be
                followed to its source.

        Returns:
            the version's document.

        Raises:
            MissingFileError: the folder holds no shard.
            SampleError: a shard is damaged.
        """
        folder = Path(output).absolute()
        samples = read_samples(folder / VERSION_FOLDER)
        config = _read_summary(folder)
        root = _whole_place(source)
        records = [sample.record for sample in samples]
        ids = [e.clip_id(record) for record in records]
        self.add_sources(folder, source, {record.source for record in records})
        fingerprint = e.digest(sorted(ids), config.get("settings"))
        found = list(self.store.find(e.DATASET, {"name": name, "fingerprint": fingerprint}))
        if found:
            return found[-1]
        self.store.add(
            e.CLIP, (e.clip_document(each, e.video_id(root, each.source)) for each in records)
        )
        self.store.add(e.ANNOTATION, map(e.annotation_document, records))
        self.store.add(e.METADATA, map(e.metadata_document, records))
        version = self._next_version(name)
        content = {
            "name": name,
            "fingerprint": fingerprint,
            "created": self.now().isoformat(timespec="seconds"),
            "num_clips": len(ids),
            "duration_s": round(sum(record.duration_s for record in records), 3),
            "source": root,
            "output": str(folder),
            "config": config,
            "deleted": None,
        }
        while True:  # another process may take the number first
            identity = e.digest("dataset", name, version)
            places = zip(ids, (_place(sample, folder) for sample in samples), strict=True)
            self.store.add(e.MEMBER, e.member_documents(identity, places))
            dataset = {"_id": identity, "version": version, **content}
            if self.store.add(e.DATASET, [dataset]):
                return dataset
            version += 1

    def add_sources(
        self, output: Path, source: str | os.PathLike[str], kept: Iterable[str] = ()
    ) -> None:
        """Remember the sources of a run, so that they can be followed and deleted in time.

        Args:
            output: the run's folder, which lists the sources that gave no clip.
            source: the input folder, as for :meth:`add`; empty where there is none.
            kept: names of the sources that gave clips.
        """
        names = {*kept, *_rejected_sources(output)}
        self.store.add(e.VIDEO, self._videos(_whole_place(source), sorted(names)))

    def datasets(self, name: str | None = None) -> list[Document]:
        """All versions, or those of one data set, by name and number."""
        where = {} if name is None else {"name": name}
        found = self.store.find(e.DATASET, where)
        return sorted(found, key=lambda each: (each["name"], each["version"]))

    def dataset(self, reference: str) -> Document:
        """A version: ``name@2``, or ``name`` for the newest.

        Raises:
            ConfigError: there is none; names the nearest.
        """
        name, _, number = reference.partition("@")
        versions = self.datasets(name)
        if not versions:
            known = nearest_names(name, {each["name"] for each in self.datasets()})
            advice = (
                f"The nearest are: {known}. 'nemo-cosmos dataset list' shows all."
                if known
                else "It is empty: 'nemo-cosmos curate' and 'nemo-cosmos dataset add' enter data "
                "sets, and --catalogue names another."
            )
            raise ConfigError(f"There is no data set '{name}' in this catalogue. {advice}")
        chosen = [each for each in versions if not number or str(each["version"]) == number]
        if not chosen:
            numbers = ", ".join(str(each["version"]) for each in versions)
            raise ConfigError(f"'{name}' has no version '{number}'; it has: {numbers}.")
        return chosen[-1]

    def clips(
        self,
        dataset: Document | None = None,
        *,
        words: str | None = None,
        where: Where | None = None,
        limit: int | None = None,
    ) -> Iterator[Document]:
        """Clips with their caption, scores and place, in order of key.

        Args:
            dataset: a version; None searches all.
            words: words that the caption must all contain.
            where: conditions on fields of the clip, or on ``scores.NAME`` and ``extra.NAME``.
            limit: stop after so many.

        Raises:
            ConfigError: nothing is found, and a condition names a field that no clip has.

        Yields:
            the CLIP with ``caption``, ``caption_source``, ``scores`` and, in a version, ``shard``.
        """
        wanted = self._matching(dataset, words, where)
        if not wanted and any(self.store.find(e.CLIP, limit=1)):
            self._check_fields(where or {})
        documents = sorted(
            (clip for ids in _groups(wanted) for clip in self._by_id(ids)),
            key=lambda clip: (clip["key"], clip["_id"]),
        )
        for group in _groups(documents[:limit]):
            yield from self._with_facts(group, dataset)

    def diff(self, first: Document, second: Document) -> Difference:
        """How the second version differs from the first."""
        before, after = self._contents(first), self._contents(second)
        old = first["config"].get("settings") or {}
        new = second["config"].get("settings") or {}
        return Difference(
            added=sorted(after.keys() - before.keys()),
            removed=sorted(before.keys() - after.keys()),
            changed=sorted(
                key for key in before.keys() & after.keys() if before[key] != after[key]
            ),
            settings={
                name: (old.get(name), new.get(name))
                for name in sorted(old.keys() | new.keys())
                if old.get(name) != new.get(name)
            },
        )

    def lineage(self, key: str) -> list[Document]:
        """Where a clip came from, once for each content it had.

        Returns:
            the clip with ``video`` as the VIDEO, and ``datasets`` as the versions that hold it,
            each with its settings and the clip's ``shard``.

        Raises:
            ConfigError: no clip has this key.
        """
        clips = list(self.clips(where={"key": key}))
        if not clips:
            raise ConfigError(
                f"No clip has the key '{key}'. 'nemo-cosmos dataset query' lists keys."
            )
        versions = {each["_id"]: each for each in self.datasets()}
        for clip in clips:
            videos = self.store.find(e.VIDEO, {"_id": clip["video"]})
            members = self.store.find(e.MEMBER, {"clip": clip["_id"]})
            clip["video"] = next(videos, None)
            clip["datasets"] = [
                {**versions[each["dataset"]], "shard": each["shard"]}
                for each in members
                if each["dataset"] in versions
            ]
        return clips

    def members(self, dataset: Document) -> dict[str, str]:
        """Shard of each clip of a version, by the clip's ``_id``."""
        found = self.store.find(e.MEMBER, {"dataset": dataset["_id"]})
        return {each["clip"]: each["shard"] for each in found}

    def _matching(
        self, dataset: Document | None, words: str | None, where: Where | None
    ) -> list[str]:
        """Ids of clips that meet every condition."""
        facts = {key: value for key, value in (where or {}).items() if _is_fact(key)}
        plain = {key: value for key, value in (where or {}).items() if not _is_fact(key)}
        found = []
        if dataset is not None:
            found.append(set(self.members(dataset)))
        if words is not None:
            found.append({each["clip"] for each in self.store.find(e.ANNOTATION, words=words)})
        if facts:
            found.append({each["clip"] for each in self.store.find(e.METADATA, facts)})
        if plain or not found:
            found.append({each["_id"] for each in self.store.find(e.CLIP, plain)})
        return sorted(set.intersection(*found))

    def _check_fields(self, where: Where) -> None:
        """Refuse fields that no clip has: they find nothing, which looks like an answer.

        Raises:
            ConfigError: names the nearest fields.
        """
        known = set(e.CLIP_FIELDS)
        for facts in self.store.find(e.METADATA, limit=_LOOKUPS):
            known |= {f"{kind}.{name}" for kind in ("scores", "extra") for name in facts[kind]}
        for field in where:
            if field not in known:
                raise ConfigError(
                    f"No clip has a field '{field}'. The nearest are {nearest_names(field, known)}."
                )

    def _by_id(self, ids: Sequence[str]) -> Iterator[Document]:
        return self.store.find(e.CLIP, {"_id": {"$in": list(ids)}})

    def _with_facts(
        self, clips: Sequence[Document], dataset: Document | None
    ) -> Iterator[Document]:
        ids = {"clip": {"$in": [clip["_id"] for clip in clips]}}
        captions = {each["clip"]: each for each in self.store.find(e.ANNOTATION, ids)}
        facts = {each["clip"]: each for each in self.store.find(e.METADATA, ids)}
        places: Mapping[str, str] = {}
        if dataset is not None:
            members = self.store.find(e.MEMBER, {"dataset": dataset["_id"], **ids})
            places = {each["clip"]: each["shard"] for each in members}
        for clip in clips:
            caption = captions.get(clip["_id"], {})
            about = facts.get(clip["_id"], {})
            yield {
                **clip,
                "caption": caption.get("text", ""),
                "caption_source": caption.get("source", ""),
                "scores": about.get("scores", {}),
                "extra": about.get("extra", {}),
                "shard": places.get(clip["_id"]),
            }

    def _contents(self, dataset: Document) -> dict[str, str]:
        """Checksum of each clip of a version by its key."""
        ids = list(self.members(dataset))
        found = (clip for group in _groups(ids) for clip in self._by_id(group))
        return {clip["key"]: clip["sha256"] for clip in found}

    def _videos(self, root: str, names: Sequence[str]) -> Iterator[Document]:
        recorded = self.now().isoformat(timespec="seconds")
        for name in names:
            location = f"{root}/{name}" if root else None
            path = Path(location) if location and not is_url(location) else None
            stat = path.stat() if path is not None and path.is_file() else None
            yield {
                "_id": e.video_id(root, name),
                "name": name,
                "location": location,
                "size_bytes": stat.st_size if stat else None,
                "modified_ns": stat.st_mtime_ns if stat else None,
                "recorded": recorded,
                "deleted": None,
            }

    def _next_version(self, name: str) -> int:
        return max((each["version"] for each in self.datasets(name)), default=0) + 1


def _groups(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    """Parts of a sequence that one lookup takes."""
    return (items[start : start + _LOOKUPS] for start in range(0, len(items), _LOOKUPS))


def _is_fact(field: str) -> bool:
    return field.startswith(_METADATA_FIELDS)


def _place(sample: Sample, folder: Path) -> str:
    """A sample's shard below the data set's folder."""
    return Path(sample.shard).absolute().relative_to(folder).as_posix()


def _whole_place(source: str | os.PathLike[str]) -> str:
    """A folder's path or URL that holds wherever one works; empty where there is none."""
    name = os.fspath(source)
    if is_url(name):
        return name.rstrip("/")
    return str(Path(name).absolute()) if name else ""


def _rejected_sources(folder: Path) -> set[str]:
    """Sources that gave no clip, or less than the whole; they are followed and deleted as well."""
    path = folder / REJECTED_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {str(json.loads(line)["name"]) for line in lines}


def _read_summary(folder: Path) -> JsonObject:
    """The run's summary, which holds its settings; empty where there is none."""
    try:
        content = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(
            f"'{folder / SUMMARY_FILE}' is not JSON: {error}. Run 'nemo-cosmos curate' with the "
            "same arguments again, which writes it again."
        ) from error
    return content if isinstance(content, dict) else {}
