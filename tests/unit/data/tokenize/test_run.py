"""Tokenising shards: windows, sidecars, resumption, refusals. The encoder here is a mean."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nemo_cosmos.controls import decode_arrays, encode_arrays
from nemo_cosmos.data.loading.latents import (
    TEXT_SUFFIX,
    pack_embedding,
    unpack_codes,
    unpack_embedding,
    unpack_latent,
)
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.writer import CuratedWriter, ShardWriter, read_samples
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.run import sample_videos, stored_text_dim, tokenize_shards
from nemo_cosmos.data.tokenize.windows import window_starts
from nemo_cosmos.errors import (
    ConfigError,
    MissingFileError,
    NumericsError,
    SampleError,
)
from nemo_cosmos.exits import Exit, saved_or_too_short
from nemo_cosmos.video import Video, decode, encode_video

from ..conftest import npy
from .conftest import CONFIG, Encoders, run


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [(25, [0, 8, 16]), (26, [0, 8, 16, 17]), (9, [0]), (10, [0, 1]), (8, [])],
)
def test_windows_reach_the_end_of_the_clip(num_frames, expected):
    assert window_starts(num_frames, 9, 8) == expected


def test_writes_what_the_data_module_reads(curated, tmp_path, encoders, no_work_yet):
    describe = {"tokenizer": tmp_path / "out" / "tok"}
    dataset = run(curated, tmp_path / "out", encoders, describe=describe)
    assert saved_or_too_short() is Exit.SAVED
    assert dataset["num_samples"] == 9
    assert dataset["num_clips"] == 3
    assert dataset["latent_shape"] == [16, 2, 4, 6]
    assert dataset["tokenizer"] == "tok"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == dataset
    data = LatentDataModule(
        tmp_path / "out",
        micro_batch_size=3,
        global_batch_size=9,
        controls=("action",),
        text_length=16,
    )
    batch = next(iter(data.train_dataloader()))
    assert batch["latent"].shape == (3, 16, 2, 4, 6)
    assert batch["action"].shape == (3, 8, 7)


def test_each_batch_is_of_one_size_the_nearest_to_its_clips(
    tmp_path, encoders, make_record, mp4, moving_square_THWC
):
    upright = np.ascontiguousarray(moving_square_THWC.swapaxes(1, 2))
    encode_video(tmp_path / "upright.mp4", Video(upright, fps=24))
    contents = (mp4, (tmp_path / "upright.mp4").read_bytes())
    with ShardWriter(tmp_path / "mixed") as writer:
        for number in range(4):
            size = {"height": 96, "width": 64} if number % 2 else {}
            writer.add(make_record(f"clip-{number}", **size), {"mp4": contents[number % 2]})
    config = replace(CONFIG, more_sizes=((48, 32),))
    dataset = run(tmp_path / "mixed", tmp_path / "out", encoders, config)
    assert dataset["num_samples"] == 12 and dataset["latent_shape"] == [16, 2, 4, 6]
    assert sorted(encoders.batches) == sorted(
        (count, 3, 9, *size) for count in (4, 2) for size in ((32, 48), (48, 32))
    )
    for sample in read_samples(tmp_path / "out"):
        wanted = (48, 32) if int(sample.key[5]) % 2 else (32, 48)
        assert (sample.record.height, sample.record.width) == wanted


def test_a_discrete_tokenizer_leaves_codes(curated, tmp_path, encoders):
    encoders.encode = lambda video_BCTHW: (
        torch.arange(48, dtype=torch.int32).reshape(1, 2, 4, 6).repeat(len(video_BCTHW), 1, 1, 1)
    )
    dataset = run(curated, tmp_path / "out", encoders)
    assert dataset["latent_shape"] == [2, 4, 6] and dataset["num_samples"] == 9
    for sample in read_samples(tmp_path / "out"):
        assert "latent.safetensors" not in sample.members
        codes_THW = unpack_codes(sample.read("codes.safetensors"))
        assert codes_THW.flatten().tolist() == list(range(48))


def test_windows_carry_their_own_span_and_actions(curated, tmp_path, encoders, make_record):
    run(curated, tmp_path / "out", encoders)
    samples = {sample.key: sample for sample in read_samples(tmp_path / "out")}
    assert sorted(samples)[:3] == ["clip-0-w000000", "clip-0-w000008", "clip-0-w000016"]
    sample = samples["clip-1-w000008"]
    np.testing.assert_array_equal(sample.array("action.npy")[:, 0], np.arange(8, 16))
    record = sample.record
    assert record.num_frames == 9
    assert (record.height, record.width, record.fps) == (32, 48, 24)
    assert record.span_s == pytest.approx((1 + 8 / 24, 1 + 17 / 24))
    assert (record.extra["clip_key"], record.extra["start_frame"]) == ("clip-1", 8)
    assert "mp4" not in sample.members


def test_latent_belongs_to_its_frames(curated, tmp_path, encoders):
    run(curated, tmp_path / "out", encoders)
    clip = next(sample for sample in read_samples(curated) if sample.key == "clip-0")
    frames = decode(clip.read("mp4"), frame_indices=range(8, 17), size=(32, 48)).frames_THWC
    video = torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)[None] / 127.5 - 1
    expected = Encoders().encode(video)[0]
    samples = {sample.key: sample for sample in read_samples(tmp_path / "out")}
    latent = unpack_latent(samples["clip-0-w000008"].read("latent.safetensors"))
    torch.testing.assert_close(latent, expected, atol=2e-3, rtol=0)


def test_encodes_in_batches_and_each_caption_once(curated, tmp_path, encoders):
    run(curated, tmp_path / "out", encoders)
    assert encoders.batches[0] == (4, 3, 9, 32, 48)
    assert sorted(encoders.texts) == ["the square moves 0", "the square moves 1"]
    sample = read_samples(tmp_path / "out")[0]
    embedding_LD = unpack_embedding(sample.read("t5.safetensors"))
    assert embedding_LD.shape == (4, 8)  # trimmed to the words


def test_other_aspect_is_padded_and_marked(curated, tmp_path, encoders):
    run(curated, tmp_path / "out", encoders, TokenizeConfig(9, 8, (48, 48)))
    record = read_samples(tmp_path / "out")[0].record
    assert record.extra["content_box"] == [8, 0, 40, 48]
    batch = next(iter(LatentDataModule(tmp_path / "out").train_dataloader()))
    assert batch["padding_mask"][0, 0, :8].all()
    assert not batch["padding_mask"][0, 0, 8:40].any()


def test_keep_video(curated, tmp_path, encoders):
    config = TokenizeConfig(9, 8, (32, 48), keep_video=True)
    run(curated, tmp_path / "out", encoders, config)
    sample = read_samples(tmp_path / "out", ("mp4",))[1]
    sample.verify()
    assert decode(sample.read("mp4")).frames_THWC.shape == (9, 32, 48, 3)


def test_long_clips_are_decoded_piece_by_piece(curated, tmp_path, encoders, monkeypatch):
    run(curated, tmp_path / "whole", encoders)
    monkeypatch.setattr("nemo_cosmos.data.tokenize.windows.MAX_DECODED_BYTES", 0)
    run(curated, tmp_path / "pieces", encoders)
    for one, other in zip(
        read_samples(tmp_path / "whole"), read_samples(tmp_path / "pieces"), strict=True
    ):
        assert one.key == other.key
        assert one.read("latent.safetensors") == other.read("latent.safetensors")


def test_images_have_one_frame(curated, tmp_path, encoders):
    class Images(Encoders):
        def encode(self, video_BCTHW):
            return super().encode(video_BCTHW)[:, :, :1]

    dataset = run(curated, tmp_path / "out", Images(), TokenizeConfig(1, 24, (32, 48)))
    assert dataset["num_samples"] == 6
    assert read_samples(tmp_path / "out")[0].array("action.npy").shape == (0, 7)


class TestStoredText:
    def write(self, folder, make_record, mp4, **embeddings):
        with CuratedWriter(folder) as writer:
            for key, content in embeddings.items():
                writer.add(make_record(key), {"mp4": mp4, TEXT_SUFFIX: content})
        return folder

    def test_embeddings_of_the_shards_are_used(self, tmp_path, make_record, mp4, encoders):
        embeddings = {key: torch.full((4, 8), value) for key, value in (("a", 1.0), ("b", 2.0))}
        packed = {key: pack_embedding(value) for key, value in embeddings.items()}
        shards = self.write(tmp_path / "in", make_record, mp4, **packed)
        assert stored_text_dim(shards) == 8
        tokenize_shards(
            shards, tmp_path / "out", encode=encoders.encode, encode_text=None, config=CONFIG
        )
        assert not encoders.texts
        for sample in read_samples(tmp_path / "out"):
            expected = embeddings[sample.key[0]]
            assert torch.equal(unpack_embedding(sample.read(TEXT_SUFFIX)), expected)

    def test_embeddings_of_two_encoders(self, tmp_path, make_record, mp4, encoders):
        packed = {key: pack_embedding(torch.ones(4, dim)) for key, dim in (("a", 8), ("b", 16))}
        shards = self.write(tmp_path / "in", make_record, mp4, **packed)
        with pytest.raises(SampleError, match=r"sample 'b' .* 16 channels, but .* 8"):
            tokenize_shards(
                shards, tmp_path / "out", encode=encoders.encode, encode_text=None, config=CONFIG
            )

    def test_shards_without_embeddings(self, curated, tmp_path, encoders):
        with pytest.raises(SampleError, match=r"has no 't5\.safetensors'"):
            tokenize_shards(
                curated, tmp_path / "out", encode=encoders.encode, encode_text=None, config=CONFIG
            )


class TestOtherSidecars:
    def write(self, tmp_path, make_record, mp4, files):
        with CuratedWriter(tmp_path / "with sidecars") as writer:
            writer.add(make_record("a"), {"mp4": mp4, **files})
        return tmp_path / "with sidecars"

    def test_trajectory_and_camera_are_cut(self, tmp_path, make_record, mp4, encoders):
        import io

        buffer = io.BytesIO()
        poses = np.tile(np.eye(4, dtype=np.float32), (25, 1, 1))
        poses[:, 0, 3] = np.arange(25)
        matrices = np.tile([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]], (25, 1, 1))
        np.savez(buffer, poses=poses, intrinsics=matrices, size=np.array([64, 96]))
        files = {
            "camera.npz": buffer.getvalue(),
            "trajectory.npy": npy(np.arange(25 * 3.0).reshape(25, 3)),
        }
        run(self.write(tmp_path, make_record, mp4, files), tmp_path / "out", encoders)
        sample = read_samples(tmp_path / "out")[1]
        np.testing.assert_array_equal(sample.array("trajectory.npy")[:, 0], 3 * np.arange(8, 17))
        with np.load(io.BytesIO(sample.read("camera.npz"))) as cameras:
            np.testing.assert_array_equal(cameras["poses"], poses[8:17])
            # The picture is half as large now, and so is what counts its pixels.
            assert cameras["size"].tolist() == [32, 48]
            assert cameras["intrinsics"][0].tolist() == [[40, 0, 24], [0, 40, 16], [0, 0, 1]]

    def test_per_step_arrays_in_an_npz_stay_aligned(self, tmp_path, make_record, mp4, encoders):
        content = encode_arrays(
            "sensors.npz",
            {"steer": np.arange(24.0), "pose": np.arange(25.0), "lens": np.arange(3.0)},
        )
        run(
            self.write(tmp_path, make_record, mp4, {"sensors.npz": content}),
            tmp_path / "out",
            encoders,
        )
        sample = read_samples(tmp_path / "out")[1]
        arrays = decode_arrays("sensors.npz", sample.read("sensors.npz"), sample.where)
        assert arrays["steer"].tolist() == list(range(8, 16))
        assert arrays["pose"].tolist() == list(range(8, 17))
        assert arrays["lens"].tolist() == [0, 1, 2]
        assert sample.record.time_axes("sensors.npz") == {
            "steer": "step",
            "pose": "frame",
            "lens": None,
        }

    def test_nan_inside_an_npz_is_found(self, tmp_path, make_record, mp4, encoders):
        content = encode_arrays("sensors.npz", {"pose": np.full(25, np.nan)})
        shards = self.write(tmp_path, make_record, mp4, {"sensors.npz": content})
        with pytest.raises(NumericsError, match=r"'pose' in 'sensors\.npz' of sample 'a'.*NaN"):
            run(shards, tmp_path / "out", encoders)

    @pytest.mark.parametrize("rows", [25, 23])
    def test_actions_of_the_wrong_length(self, tmp_path, make_record, mp4, encoders, rows):
        shards = self.write(tmp_path, make_record, mp4, {"action.npy": npy(np.zeros((rows, 7)))})
        with pytest.raises(SampleError, match=rf"{rows} rows; expected 24 for 25 frames"):
            run(shards, tmp_path / "out", encoders)

    @pytest.mark.parametrize("suffix", ["action.npy", "camera.npz"])
    def test_pickled_arrays_are_refused(self, tmp_path, make_record, mp4, encoders, suffix):
        import io

        buffer = io.BytesIO()
        objects = np.array([{"a": 1}] * 24, dtype=object)
        if suffix == "action.npy":
            np.save(buffer, objects, allow_pickle=True)
        else:
            np.savez(buffer, poses=objects)
        shards = self.write(tmp_path, make_record, mp4, {suffix: buffer.getvalue()})
        with pytest.raises(SampleError, match=suffix):
            run(shards, tmp_path / "out", encoders)


class TestResume:
    def test_goes_on_with_the_missing_shard(self, curated, tmp_path, encoders):
        class Stopped(Encoders):
            def encode(self, video_BCTHW):
                if len(self.batches) == 2:
                    raise KeyboardInterrupt
                return super().encode(video_BCTHW)

        stopped = Stopped()
        with pytest.raises(KeyboardInterrupt):
            run(curated, tmp_path / "out", stopped)
        tars = list((tmp_path / "out").rglob("*.tar"))
        assert len(tars) == 1, "the finished shard stays, the unfinished one is not there"
        before = tars[0].read_bytes()
        dataset = run(curated, tmp_path / "out", encoders)
        assert dataset["num_samples"] == 9
        assert tars[0].read_bytes() == before
        assert sum(batch[0] for batch in encoders.batches) == 3  # the second shard's windows only
        fresh = run(curated, tmp_path / "fresh", Encoders())
        assert fresh == dataset

    def test_finished_run_encodes_nothing(self, curated, tmp_path, encoders):
        first = run(curated, tmp_path / "out", encoders)
        again = Encoders()
        assert run(curated, tmp_path / "out", again) == first
        assert again.batches == []
        assert again.texts == []

    def test_other_settings_need_another_folder(self, curated, tmp_path, encoders):
        run(curated, tmp_path / "out", encoders)
        with pytest.raises(ConfigError, match=r"begun with window_frames=9, now window_frames=17"):
            run(curated, tmp_path / "out", encoders, TokenizeConfig(17, 8, (32, 48)))
        with pytest.raises(ConfigError, match="begun with another list of shards"):
            run([curated, curated], tmp_path / "out", encoders)

    def test_a_folder_has_one_tokenizer_unless_two_are_meant(self, curated, tmp_path, encoders):
        one, two = ({"encoder_sha256": digest, "tokenizer_name": "tok"} for digest in "ab")
        run(curated, tmp_path / "out", encoders, describe=one)
        (tmp_path / "out" / "dataset.json").unlink()
        with pytest.raises(ConfigError, match=r"two tokenizers.*--allow-mismatch tokenizer"):
            run(curated, tmp_path / "out", encoders, describe=two)
        meant = {"describe": two, "allow_mismatch": ["tokenizer"]}
        (recorded,) = run(curated, tmp_path / "out", encoders, **meant)["allowed_mismatch"]
        assert "their weights differ" in recorded
        assert run(curated, tmp_path / "out", encoders, describe=one)["allowed_mismatch"]

    def test_progress_counts_clips(self, curated, tmp_path, encoders):
        seen = []
        run(curated, tmp_path / "out", encoders, on_clip=lambda done, total: seen.append(done))
        assert seen[-1] == 3
        assert seen == sorted(seen)


class TestRefused:
    def test_no_shards(self, tmp_path, encoders):
        with pytest.raises(MissingFileError, match="no file or folder"):
            run(tmp_path / "none", tmp_path / "out", encoders)

    def test_clips_too_short(self, curated, tmp_path, encoders):
        with pytest.raises(SampleError, match="No clip has the 33 frames"):
            run(curated, tmp_path / "out", encoders, TokenizeConfig(33, 8, (32, 48)))

    def test_short_clips_are_counted(self, tmp_path, make_record, mp4, encoders, curated):
        from nemo_cosmos.video import Video, encode_video

        encode_video(tmp_path / "short.mp4", Video(np.zeros((5, 64, 96, 3), np.uint8), 24))
        with CuratedWriter(curated) as writer:
            record = make_record("short", num_frames=5, span_s=(0, 5 / 24))
            writer.add(record, {"mp4": (tmp_path / "short.mp4").read_bytes()})
        dataset = run(curated, tmp_path / "out", encoders)
        assert dataset["skipped"] == {"too_short": 1}
        assert dataset["num_clips"] == 4

    def test_nan_latents(self, curated, tmp_path, encoders):
        encoders.encode = lambda video: torch.full((len(video), 16, 2, 4, 6), float("nan"))
        with pytest.raises(NumericsError, match=r"latent of window 0 of sample 'clip-0' .*NaN"):
            run(curated, tmp_path / "out", encoders)
        assert not list((tmp_path / "out").rglob("*.tar"))

    def test_implausible_latents_are_left_out_and_counted(self, curated, tmp_path, encoders):
        usual = encoders.encode

        def encode(video_BCTHW):
            latents = usual(video_BCTHW)
            latents[0, 0] = 3000.0
            return latents

        encoders.encode = encode
        dataset = run(curated, tmp_path / "out", encoders)
        batches = len(encoders.batches)
        assert dataset["skipped"] == {"latent_out_of_range": batches}
        assert dataset["num_samples"] == 9 - batches

    def test_damaged_clip_is_named(self, tmp_path, make_record, mp4, encoders):
        with CuratedWriter(tmp_path / "bad") as writer:
            writer.add(make_record("broken"), {"mp4": mp4[: len(mp4) // 2]})
        with pytest.raises(SampleError, match="mp4 of sample 'broken'"):
            run(tmp_path / "bad", tmp_path / "out", encoders)

    def test_json_that_lies_about_the_length(self, tmp_path, make_record, mp4, encoders):
        with CuratedWriter(tmp_path / "bad") as writer:
            writer.add(make_record("liar", num_frames=40), {"mp4": mp4})
        with pytest.raises(SampleError, match="mp4 of sample 'liar'"):
            run(tmp_path / "bad", tmp_path / "out", encoders)

    @pytest.mark.parametrize(
        "options", [{"window_frames": 0}, {"size": (0, 4)}, {"latent_dtype": "int8"}]
    )
    def test_impossible_settings(self, options):
        with pytest.raises(ConfigError, match=r"must be|expected"):
            TokenizeConfig(**options)


def test_statistics_see_windows_of_many_clips(curated):
    videos = list(sample_videos([curated], CONFIG, max_videos=2))
    assert [tuple(video.shape) for video in videos] == [(1, 3, 9, 32, 48)] * 2
    with pytest.raises(SampleError, match="No clip has"):
        next(sample_videos(curated, TokenizeConfig(99, 8, (32, 48))))
