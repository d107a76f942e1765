"""The videos of a page: the worst, the median and the best by each metric, and their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_cosmos.errors import InputError, NemoCosmosError
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.page.plots import control_plots
from nemo_cosmos.evaluation.page.shown import Shown
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.video import decode, resize_frames
from nemo_cosmos.video.pictures import side_by_side, video_uri

MAX_CLIPS = 24
"""Videos inside a page; more would make it too heavy to open."""
SHOWN_WIDTH_PX = 256


@dataclass(frozen=True)
class Case:
    """A video's place by one metric.

    Attributes:
        clip: its key among the page's clips; empty where the page holds no more videos.
        rank: worst, median or best.
        name: its name.
        score: its number, as text.
    """

    clip: str
    rank: str
    name: str
    score: str


@dataclass(frozen=True)
class Group:
    """The extremes by one metric."""

    metric: str
    cases: list[Case]


class Clips:
    """The videos inside a page, each once however many metrics show it.

    Args:
        shown: what there is to show.
        folder: where the videos are encoded.
    """

    def __init__(self, shown: Shown, folder: Path) -> None:
        self.uris: dict[str, str] = {}
        self.controls: dict[str, list[str]] = {}
        self._shown, self._folder = shown, folder
        self._keys: dict[str, str] = {}

    def key(self, name: str) -> str:
        """The key of a video, which is read where it is the first time; empty for none."""
        if name not in self._keys:
            uri = self._uri(name) if len(self.uris) < MAX_CLIPS else None
            self._keys[name] = "" if uri is None else f"c{len(self.uris)}"
            if uri is not None:
                self.controls[self._keys[name]] = self._control(name)
                self.uris[self._keys[name]] = uri
        return self._keys[name]

    def _uri(self, name: str) -> str | None:
        """A video with all its versions side by side; None where a file has gone."""
        shown, fps = {}, 1.0
        try:
            for label, file in self._shown.videos.get(name, {}).items():
                video = decode(file)
                fps = video.fps
                height, width = video.frames_THWC.shape[1:3]
                size = (round(height * SHOWN_WIDTH_PX / width), SHOWN_WIDTH_PX)
                shown[label] = resize_frames(video.frames_THWC, size)
        except (InputError, OSError):
            return None
        if not shown:
            return None
        lowest = min(frames.shape[1] for frames in shown.values())
        same = {label: resize_frames(f, (lowest, f.shape[2])) for label, f in shown.items()}
        file = self._folder / "shown" / f"{Path(name).stem}.mp4"
        return video_uri(side_by_side(same, scale=1), fps, file)

    def _control(self, name: str) -> list[str]:
        if self._shown.control is None:
            return []
        try:
            return control_plots(self._shown.control(name))
        except (NemoCosmosError, OSError):
            return []  # the recording has gone since


def extremes(evaluation: Evaluation, metrics: Sequence[Metric], clips: Clips) -> list[Group]:
    """The worst, the median and the best video by each metric.

    Args:
        evaluation: the scores.
        metrics: metrics of single videos.
        clips: the page's videos.
    """
    groups = []
    for metric in metrics:
        found = [name for name, clip in evaluation.clips.items() if metric.name in clip.scores]
        if not found:
            continue
        found.sort(
            key=lambda name: evaluation.clips[name].scores[metric.name],
            reverse=not metric.higher_is_better,
        )
        places = {"worst": 0, "median": len(found) // 2, "best": len(found) - 1}
        ranks: dict[str, str] = {}
        for rank, place in places.items():
            ranks.setdefault(found[place], rank)
        cases = [
            Case(clips.key(name), rank, name, _score(evaluation, name, metric))
            for name, rank in ranks.items()
        ]
        groups.append(Group(metric.name, cases))
    return groups


def _score(evaluation: Evaluation, name: str, metric: Metric) -> str:
    return f"{evaluation.clips[name].scores[metric.name]:.3f} {metric.unit}".strip()
