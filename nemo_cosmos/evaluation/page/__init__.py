"""The page that a person opens after an evaluation."""

from nemo_cosmos.evaluation.page.shown import Controls, Shown, VideosOf
from nemo_cosmos.evaluation.page.write import write_page

__all__ = ["Controls", "Shown", "VideosOf", "write_page"]
