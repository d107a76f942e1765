"""What the folder of a run contains, and how to read it. Imports nothing heavy.

::

    <log_dir>/<name>/
        checkpoints/step=000200/   distributed checkpoints, and step=000200-last, a link
        metrics.jsonl              loss curves
        tensorboard/               the same, and sample videos
        samples/                   sample videos
        stacks/                    where every rank stood when the run hung
        skipped_batches.jsonl      batches that spoilt the run and were left out
        export/                    the trained model, ready for inference
        finished.json              written last: a run that has it is complete
        nemo_log_*.txt             NeMo's log
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.formats.whole import is_whole
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.storage import EXPORT_FOLDER
from nemo_cosmos.storage.run_curves import METRICS_FILE, read_curves

CHECKPOINTS_FOLDER = "checkpoints"
SAMPLES_FOLDER = "samples"
FINISHED_FILE = "finished.json"
UNFINISHED_SUFFIX = "-unfinished"  # NeMo's marker beside a checkpoint that is being written
#: A run that wrote its curves less than this ago counts as running.
RUNNING_S = 120.0
STEP_PATTERN = re.compile(r"step=(\d+)")


def read_finished(run: Path) -> JsonObject | None:
    """The marker of a complete run: ``step``, ``fingerprint``, ``export`` and the export's files.

    None without one, where it is damaged, and where a file of the export is missing or has another
    size than was written: each can be written again.
    """
    path, export = run / FINISHED_FILE, run / EXPORT_FOLDER
    if not path.is_file() or not export.is_dir():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(content, dict) or not {"step", "fingerprint"} <= content.keys():
        return None
    return content if _is_export_whole(run, content.get("files")) else None


def exported_files(run: Path) -> dict[str, int]:
    """The files of a run's export, relative to it and in order, with their sizes in bytes."""
    export = run / EXPORT_FOLDER
    paths = sorted(path for path in export.rglob("*") if path.is_file())
    return {str(path.relative_to(export)): path.stat().st_size for path in paths}


def _is_export_whole(run: Path, recorded: object) -> bool:
    """Whether every file of an export is there, and as long as it was.

    Args:
        run: the run's folder.
        recorded: sizes by file. Earlier releases recorded the names alone, or nothing; then the
            files themselves say whether they are whole.
    """
    found = exported_files(run)
    if isinstance(recorded, dict):
        return all(found.get(name) == size for name, size in recorded.items())
    names = {*found, *recorded} if isinstance(recorded, list) else set(found)
    return all(is_whole(run / EXPORT_FOLDER / name) for name in names)


def list_checkpoints(run: Path) -> list[tuple[Path, int]]:
    """Complete checkpoints of a run with their steps, oldest first.

    Args:
        run: the run's folder. An ``-unfinished`` marker beside a checkpoint excludes it.
    """
    folder = run / CHECKPOINTS_FOLDER
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        match = STEP_PATTERN.fullmatch(path.name)
        if match and path.is_dir() and not path.with_name(path.name + UNFINISHED_SUFFIX).exists():
            found.append((path, int(match[1])))
    return sorted(found, key=lambda entry: entry[1])


def find_runs(root: Path) -> list[Path]:
    """Folders of runs at or below ``root``, the most recently changed first."""
    runs = {path.parent for path in root.rglob(FINISHED_FILE)}
    runs |= {path.parent for path in root.rglob(METRICS_FILE) if _holds_curves(path)}
    return sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True)


def _holds_curves(path: Path) -> bool:
    # Curation writes a metrics.jsonl into its output folder, too; its lines have no step.
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    try:
        return "step" in json.loads(first)
    except json.JSONDecodeError:  # a run that has only started: its first line is not complete
        return True


def describe_runs(root: Path) -> list[JsonObject]:
    """Every run at or below a folder, the most recently changed first.

    Returns:
        ``{"run", "state", "step", "loss", "val_loss", "checkpoint", "export"}`` each; ``state`` is
        "finished", "running" or "stopped".

    Raises:
        MissingFileError: there is no such folder.
    """
    if not root.is_dir():
        raise MissingFileError(
            f"There is no folder '{root}', so there are no runs to show. Give the folder that "
            "training writes to, or train first."
        )
    return [_describe(run) for run in find_runs(root)]


def _describe(run: Path) -> JsonObject:
    curves, checkpoints, finished = read_curves(run), list_checkpoints(run), read_finished(run)
    metrics = run / METRICS_FILE
    is_fresh = metrics.is_file() and time.time() - metrics.stat().st_mtime < RUNNING_S
    export = run / EXPORT_FOLDER
    return {
        "run": str(run),
        "state": "finished" if finished else "running" if is_fresh else "stopped",
        "step": finished["step"] if finished else curves[-1]["step"] if curves else 0,
        "loss": _last(curves, "loss"),
        "val_loss": _last(curves, "val_loss"),
        "checkpoint": str(checkpoints[-1][0]) if checkpoints else None,
        "export": str(export) if export.is_dir() else None,
    }


def _last(curves: list[JsonObject], name: str) -> float | None:
    return next((line[name] for line in reversed(curves) if line.get(name) is not None), None)


def current_run() -> Path:
    """The folder of the run that is being trained; NeMo's logger sets it."""
    from nemo.utils import AppState  # NeMo takes seconds to import; the rest of this file is light

    return Path(AppState().log_dir or "outputs")
