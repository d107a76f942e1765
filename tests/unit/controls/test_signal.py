"""Signals: one meaning of a row on the whole road from a recording to a batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_curation.sidecars import cut_arrays
from nemo_cosmos.controls import (
    Control,
    Signal,
    SignalArray,
    TimeAxis,
    decode_arrays,
    encode_arrays,
    infer_signal,
    known_signal,
    read_signal,
)
from nemo_cosmos.data.controls import read_control
from nemo_cosmos.data.schema import TIME_AXES, ClipRecord
from nemo_cosmos.data.tokenize.windows import Window, cut_signals
from nemo_cosmos.errors import ConfigError, MissingFileError, NumericsError, SampleError

AXES: list[TimeAxis] = ["frame", "step", None]
RIG = Signal(
    "rig.npz",
    (
        SignalArray("pose", "frame", (None, 4)),
        SignalArray("steer", "step", ()),
        SignalArray("lens", None, (3,), units="px", max_abs=100.0),
    ),
)


def rig(num_frames: int, **changes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {
        "pose": np.arange(num_frames * 8.0).reshape(num_frames, 2, 4),
        "steer": np.arange(num_frames - 1.0),
        "lens": np.ones(3),
        **changes,
    }


class TestCut:
    @settings(deadline=None)
    @given(st.data())
    def test_a_cut_of_a_cut_is_one_cut(self, data: st.DataObject) -> None:
        num_frames = data.draw(st.integers(1, 40))
        values = rig(num_frames)
        first, length = window_of(data, num_frames)
        inner, inner_length = window_of(data, length)
        RIG.check(values, num_frames)
        outer = RIG.cut(values, first, length)
        RIG.check(outer, length)
        twice = RIG.cut(outer, inner, inner_length)
        once = RIG.cut(values, first + inner, inner_length)
        for name, array in once.items():
            np.testing.assert_array_equal(twice[name], array)

    @settings(deadline=None)
    @given(data=st.data(), axis=st.sampled_from(AXES), ending=st.sampled_from(["npy", "npz"]))
    @pytest.mark.parametrize("is_declared", [True, False])
    def test_the_whole_road_equals_direct_slicing(
        self, data: st.DataObject, axis: TimeAxis, ending: str, is_declared: bool, tmp_path_factory
    ) -> None:
        """Curation cuts a span, tokenising a window of it, loading reads that window."""
        num_frames = data.draw(st.integers(5, 30))
        rows = {"frame": num_frames, "step": num_frames - 1, None: 2}[axis]
        array = np.arange(rows * 3.0).reshape(rows, 3)
        start, length = window_of(data, num_frames)
        first, window_length = window_of(data, length)
        name = "state" if is_declared and axis == "frame" else "action" if is_declared else "wind"
        if is_declared and (axis is None or ending == "npz"):
            return  # every declared file of ours has rows along time and is an .npy
        suffix = f"{name}.{ending}"
        file = tmp_path_factory.mktemp("raw") / f"clip.{suffix}"
        file.write_bytes(encode_arrays(suffix, {name: array}))

        contents, axes = cut_arrays([file], num_frames, start, start + length)
        clip = fake_clip(contents, axes, length)
        record, cut = cut_signals(fake_window(clip, first, window_length))
        assert record.time_axes(suffix) == ({} if is_declared else {name: axis})

        control = Control("any", (Signal(suffix, (SignalArray(name, axis),)),), {})
        loaded = read_control(control, cut, window_length, "a sample")
        begin = start + first
        expected = {
            "frame": array[begin : begin + window_length],
            "step": array[begin : begin + window_length - 1],
            None: array,
        }[axis]
        (found,) = loaded.values()
        np.testing.assert_array_equal(found.numpy(), expected)


def window_of(data: st.DataObject, num_frames: int) -> tuple[int, int]:
    first = data.draw(st.integers(0, num_frames - 1))
    return first, data.draw(st.integers(1, num_frames - first))


def fake_clip(contents: dict[str, bytes], axes: dict[str, Any], num_frames: int) -> Any:
    record = ClipRecord(
        key="clip", source="raw", span_s=(0, 1), fps=10, num_frames=num_frames, width=8, height=8,
        caption="words", extra={TIME_AXES: axes} if axes else {},
    )  # fmt: skip
    return SimpleNamespace(record=record, members=contents, read=contents.get, where="a clip")


def fake_window(clip: Any, start: int, num_frames: int) -> Window:
    record = clip.record.with_changes(num_frames=num_frames)
    return Window(clip, record, start, np.zeros((num_frames, 1, 1, 3), np.uint8))


class TestCheck:
    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            (rig(9, pose=np.zeros((8, 2, 4))), SampleError, "'pose' in 'rig.npz' of x has 8 rows"),
            (rig(9, steer=np.zeros(9)), SampleError, "9 rows; expected 8 .* between every two"),
            (rig(9, steer=np.zeros(())), SampleError, "0 rows"),
            (rig(9, pose=np.zeros((9, 2, 3))), SampleError, r"expected \(9, any, 4\)"),
            (rig(9, lens=np.zeros(4)), SampleError, r"expected \(3\)"),
            (rig(9, steer=np.full(8, np.inf)), NumericsError, "NaN or infinity"),
            (rig(9, lens=np.full(3, -1e6)), NumericsError, r"1e\+06; expected at most 100 px"),
            (rig(9, lens=np.full(3, 200, np.int32)), NumericsError, "200; expected at most 100"),
            ({"pose": np.zeros((9, 2, 4)), "steer": np.zeros(8)}, SampleError, "no array 'lens'"),
        ],
    )
    def test_what_does_not_fit(
        self, values: dict[str, NDArray[Any]], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            RIG.check(values, 9, "x")

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.full((4, 7), "1.0"), "type <U3, not numbers"),
            (np.ones((4, 7), complex), "type complex128, not numbers"),
            (np.ones((4, 7), bool), "type bool, not numbers"),
            (np.ones((4, 7), "M8[s]"), "type datetime64"),
            (np.full((4, 7), None), "type object, not numbers"),
            (np.full((4, 7), np.nan), "NaN or infinity"),
            (np.full((4, 7), 1e300), "float32 cannot hold"),
        ],
    )
    def test_what_is_no_number_is_refused(self, array: NDArray[Any], message: str) -> None:
        signal = Signal("action.npy", (SignalArray("action", "step", (7,)),))
        with pytest.raises(NumericsError, match=message):
            signal.check(signal.values(array), 5)

    def test_an_array_that_no_model_reads_may_hold_texts(self) -> None:
        values = {"words": np.array(["a", "b", "c"]), "flags": np.ones(3, bool)}
        infer_signal("notes.npz", values, 3).check(values, 3)

    def test_rows_of_unequal_lengths_are_no_array(self) -> None:
        signal = Signal("action.npy", (SignalArray("action", "step"),))
        with pytest.raises(SampleError, match="rows of one length"):
            signal.values([[1.0], [1.0, 2.0]])  # type: ignore[arg-type]

    def test_surplus_rows_are_an_error_too(self) -> None:
        with pytest.raises(SampleError, match="11 rows; expected 8"):
            RIG.check(rig(9, steer=np.zeros(11)), 9)

    def test_a_batch_holds_declared_arrays_as_float32(self) -> None:
        batch = RIG.batch(rig(9, other=np.ones(5)), 2, 4)
        assert {key: value.shape for key, value in batch.items()} == {
            "rig_pose": (4, 2, 4),
            "rig_steer": (3,),
            "rig_lens": (3,),
        }
        assert all(value.dtype == np.float32 for value in batch.values())


class TestValues:
    def test_one_array_or_several_by_name(self) -> None:
        single = Signal("wind.npy", (SignalArray("wind"),))
        assert single.values(np.ones(2))["wind"].shape == (2,)
        assert RIG.values(rig(3)).keys() == {"pose", "steer", "lens"}
        with pytest.raises(SampleError, match="'wind' is one array"):
            single.values({"wind": np.ones(2), "gust": np.ones(2)})
        with pytest.raises(SampleError, match="arrays 'pose', 'steer' and 'lens', but one array"):
            RIG.values(np.ones(2))


class TestInference:
    def test_rows_decide_once_and_the_record_keeps_it(self) -> None:
        values = {"a": np.zeros(9), "b": np.zeros(8), "c": np.zeros(3), "d": np.zeros(())}
        signal = infer_signal("x.npz", values, 9)
        axes = {"a": "frame", "b": "step", "c": None, "d": None}
        assert signal.time_axes == axes
        # Cut to 3 frames, 'c' has as many rows as there are frames.
        cut = signal.cut(values, 0, 3)
        assert infer_signal("x.npz", cut, 3, recorded=axes).time_axes == axes
        assert infer_signal("x.npz", cut, 3).time_axes != axes

    def test_a_declaration_comes_first(self) -> None:
        values = {"action": np.zeros((9, 7))}
        signal = infer_signal("action.npy", values, 9, known_signal("action.npy"))
        with pytest.raises(SampleError, match="9 rows; expected 8"):
            signal.check(values, 9)


class TestFiles:
    def test_round_trip(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.arange(3))
        np.savez(tmp_path / "a.npz", **rig(3))
        single, several = read_signal(tmp_path / "a.npy"), read_signal(tmp_path / "a.npz")
        assert isinstance(single, np.ndarray) and single.tolist() == [0, 1, 2]
        assert isinstance(several, dict) and several.keys() == {"pose", "steer", "lens"}

    @pytest.mark.parametrize(
        ("name", "content", "error", "message"),
        [
            ("none.npy", None, MissingFileError, "no file"),
            ("a.txt", b"", SampleError, "ending .npy or .npz"),
            ("a.npy", b"no array", SampleError, "numpy.save"),
            ("a.npz", b"PK no zip", SampleError, "numpy.savez"),
            ("a.npy", encode_arrays("a.npz", {"a": np.ones(1)}), SampleError, "several arrays"),
            ("a.npz", encode_arrays("a.npy", {"a": np.ones(1)}), SampleError, "a single array"),
        ],
    )
    def test_what_is_refused(
        self, tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=message):
            read_signal(tmp_path / name)

    def test_pickled_objects_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
        (tmp_path / "b.npz").write_text("1 0 0 0")
        with pytest.raises(SampleError, match="it is no file of NumPy's"):
            read_signal(tmp_path / "b.npz")
        with pytest.raises(SampleError, match=r"holds Python objects.*no objects"):
            decode_arrays("a.npy", (tmp_path / "a.npy").read_bytes(), "x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SignalArray("a", "second"), "time axis 'second'"),  # type: ignore[arg-type]
        (lambda: Signal("a.json", ()), "ending"),
        (lambda: Signal("a.npy", (SignalArray("b"),)), "holds one array"),
    ],
)
def test_declarations_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("recorded", [3, {"a.npz": 3}, {"a.npz": {"b": "second"}}])
def test_a_record_with_other_time_axes(recorded: Any) -> None:
    record = fake_clip({}, {}, 3).record.with_changes(**{TIME_AXES: recorded})
    with pytest.raises(SampleError, match="has time_axes"):
        record.time_axes("a.npz")
