"""Pictures of the report."""

import base64

import cv2
import numpy as np
import pytest

from nemo_cosmos.quickstart.report import Exhibit, Report, Section, write_report
from nemo_cosmos.quickstart.runner import Record
from nemo_cosmos.video.pictures import (
    GAP_PX,
    LABEL_HEIGHT_PX,
    curve_svg,
    film_strip,
    image_uri,
    side_by_side,
    video_uri,
)


def test_side_by_side_keeps_time_and_order(moving_square_THWC):
    dark = np.zeros_like(moving_square_THWC[:5])
    joined = side_by_side({"a": moving_square_THWC, "b": dark}, scale=1)
    num_frames, height, width, _ = moving_square_THWC.shape
    assert joined.shape == (num_frames, height + LABEL_HEIGHT_PX, 2 * width + GAP_PX, 3)
    np.testing.assert_array_equal(joined[:, LABEL_HEIGHT_PX:, :width], moving_square_THWC)
    assert not joined[-1, LABEL_HEIGHT_PX:, width + GAP_PX :].any()


def test_labels_are_drawn(moving_square_THWC):
    joined = side_by_side({"truth": moving_square_THWC}, scale=2)
    assert joined[0, :LABEL_HEIGHT_PX].min() < 128


def test_film_strip_runs_from_first_to_last(moving_square_THWC):
    strip = film_strip(moving_square_THWC, num_frames=3)
    width = moving_square_THWC.shape[2]
    np.testing.assert_array_equal(strip[:, :width], moving_square_THWC[0])
    np.testing.assert_array_equal(strip[:, -width:], moving_square_THWC[-1])


def test_image_uri_holds_the_picture(moving_square_THWC):
    uri = image_uri(moving_square_THWC[0])
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    picture = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(picture, moving_square_THWC[0])


def test_video_uri_is_the_file(moving_square_THWC, tmp_path):
    uri = video_uri(moving_square_THWC, 10.0, tmp_path / "v.mp4")
    assert base64.b64decode(uri.split(",")[1]) == (tmp_path / "v.mp4").read_bytes()


@pytest.mark.parametrize("values", [[1.0], [3.0, 2.0, 1.0], [1.0, 0.0, -1.0]])
def test_curve_is_inline_svg(values):
    svg = curve_svg(list(enumerate(values)), "loss")
    assert svg.startswith("<svg")
    assert "</svg>" in svg


def test_report_escapes_text_and_embeds_pictures(tmp_path):
    exhibit = Exhibit("<b>caption</b>", "data:video/mp4;base64,AA", "data:image/png;base64,AA", 512)
    section = Section("T", "text", [exhibit], ["<svg></svg>"], [["head"], ["<cell>"]])
    record = Record("simulate", "Render", "f", 61.0, {})
    report = Report([("1", "one")], [section], [record], {"simulate": ["nemo-cosmos x"]}, "2 cores")
    write_report(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;caption" in page
    assert "&lt;cell&gt;" in page
    assert '<figure style="width: 512px">' in page  # a long caption makes it no wider
    assert "<svg></svg>" in page
    assert "nemo-cosmos x" in page
    assert "1.0 minutes" in page


def test_figures_in_tables_are_set_to_the_right_with_their_headings(tmp_path):
    tables = [
        Section("T", "text", table=[["kind", "PSNR, dB"], ["words", "20.24"], ["frame", "-1"]]),
        Section("U", "text", table=[["a heading without rows"]]),
    ]
    write_report(Report([], tables, []), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert '<th>kind</th><th class="num">PSNR, dB</th>' in page
    assert '<td>words</td><td class="num">20.24</td>' in page
    assert '<td>frame</td><td class="num">-1</td>' in page
    assert "<th>a heading without rows</th>" in page
