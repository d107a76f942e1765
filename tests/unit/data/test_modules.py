"""Data modules: the batch contract, sharding by rank, resumption, mixing, validation."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nemo_cosmos.data.loading.loader import FiniteRankBatches
from nemo_cosmos.data.modules import LatentDataModule, VideoDataModule
from nemo_cosmos.data.order.packing import PackConfig
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.storage import mirror_folder


def take(loader, count):
    iterator = iter(loader)
    return [next(iterator) for _ in range(count)]


def keys(batches):
    return [key for batch in batches for key in batch["key"]]


class TestBuckets:
    def test_workers_read_what_lies_in_a_bucket(self, write_latents, bucket):
        folder = write_latents()
        mirror_folder(folder, f"{bucket}/latents", "part_000000/000000.tar")
        local, remote = (
            LatentDataModule(path, micro_batch_size=2, global_batch_size=2, num_workers=workers)
            for path, workers in ((folder, 0), (f"{bucket}/latents", 1))
        )
        expected = keys(take(local.train_dataloader(), 3))
        assert keys(take(remote.train_dataloader(), 3)) == expected


class TestLatentBatches:
    def test_batch_is_what_the_model_expects(self, write_latents):
        data = LatentDataModule(
            write_latents(),
            micro_batch_size=2,
            global_batch_size=4,
            text_length=12,
            controls=("action",),
        )
        (batch,) = take(data.train_dataloader(), 1)
        tensors = {name: value for name, value in batch.items() if torch.is_tensor(value)}
        assert batch.keys() - tensors.keys() == {"key", "views", "is_finite"}
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        assert shapes == {
            "latent": (2, 16, 3, 8, 12),
            "t5_text_embeddings": (2, 12, 8),
            "t5_text_mask": (2, 12),
            "fps": (2,),
            "num_frames": (2,),
            "image_size": (2, 4),
            "padding_mask": (2, 1, 64, 96),
            "action": (2, 16, 7),
        }
        assert all(value.dtype == torch.float32 for value in tensors.values())
        assert batch["t5_text_mask"].sum(1).tolist() == [5, 5]
        assert not batch["t5_text_embeddings"][:, 5:].any()
        assert batch["t5_text_embeddings"][:, :5].all()
        assert batch["image_size"][0].tolist() == [64, 96, 64, 96]
        assert batch["num_frames"].tolist() == [17, 17]
        assert batch["fps"].tolist() == [24, 24]
        assert not batch["padding_mask"].any()

    def test_shapes_of_all_batches_are_known_before_training(self, write_latents):
        folders = [write_latents(), write_latents("images", num_frames=1, height=32)]
        validation = write_latents("validation", num_frames=9)
        video, image, longer = (3, 8, 12), (1, 4, 12), (2, 8, 12)
        assert LatentDataModule(folders).data_spec().latents_thw == (
            image,
            video,
        )
        assert LatentDataModule(folders, image_ratio=0.0).data_spec().latents_thw == (video,)
        packed = LatentDataModule(folders, validation, packing=PackConfig(max_tokens=100))
        assert packed.data_spec().latents_thw == (longer,)

    def test_looking_at_the_data_early_does_not_change_what_a_resumed_run_reads(
        self, write_latents
    ):
        folder = write_latents()
        left_out = sorted(folder.rglob("*.tar"))[0].relative_to(folder)
        data = LatentDataModule(folder)
        assert data.data_spec().latents_thw == ((3, 8, 12),)
        before = len(data._train_dataset.corpus)
        data.load_state_dict({"excluded": [f"0/{left_out}"]})
        assert len(data._train_dataset.corpus) < before

    def test_control_belongs_to_its_latent(self, write_latents):
        data = LatentDataModule(write_latents(), controls=("action",), text_length=8)
        for batch in take(data.train_dataloader(), 10):
            number = float(batch["action"][0, 0, 0])
            assert batch["key"][0].startswith(f"s{number:.0f}@")
            assert batch["latent"].mean() == pytest.approx(number / 100, abs=1e-3)

    def test_padding_box_becomes_a_mask(self, write_latents):
        folder = write_latents(extra={"content_box": [8, 0, 56, 96]})
        (batch,) = take(LatentDataModule(folder).train_dataloader(), 1)
        mask = batch["padding_mask"][0, 0]
        assert mask[:8].all()
        assert mask[56:].all()
        assert not mask[8:56].any()

    def test_an_epoch_shows_every_sample(self, write_latents):
        data = LatentDataModule(write_latents(count=10), micro_batch_size=2, global_batch_size=2)
        seen = [key.split("@")[0] for key in keys(take(data.train_dataloader(), 5))]
        assert sorted(seen) == sorted(f"s{number}" for number in range(10))

    def test_workers_do_not_change_the_order(self, write_latents):
        folder = write_latents()
        alone, helped = (
            keys(take(LatentDataModule(folder, num_workers=workers).train_dataloader(), 12))
            for workers in (0, 2)
        )
        assert alone == helped

    def test_batches_never_mix_sizes(self, write_latents):
        folders = [write_latents("a", 7), write_latents("b", 5, height=96, first=20)]
        data = LatentDataModule(folders, micro_batch_size=2, global_batch_size=2)
        heights = [batch["latent"].shape[3] for batch in take(data.train_dataloader(), 14)]
        assert set(heights) == {8, 12}

    def test_images_come_by_ratio(self, write_latents):
        folders = [write_latents("v", 6), write_latents("i", 6, num_frames=1, first=20)]
        data = LatentDataModule(folders, image_ratio=0.25)
        frames = [batch["latent"].shape[2] for batch in take(data.train_dataloader(), 40)]
        assert frames.count(1) == 10
        only_videos = LatentDataModule(folders, image_ratio=0.0)
        assert {batch["latent"].shape[2] for batch in take(only_videos.train_dataloader(), 20)} == {
            3
        }

    def test_ratio_without_images(self, write_latents):
        data = LatentDataModule(write_latents(), image_ratio=0.5)
        with pytest.raises(SampleError, match="10 videos and 0 images"):
            data.train_dataloader()

    @pytest.mark.parametrize("image_ratio", [-0.1, 1.0])
    def test_impossible_ratio(self, image_ratio):
        with pytest.raises(ConfigError, match="share of the batches"):
            LatentDataModule("nowhere", image_ratio=image_ratio)

    def test_impossible_batch_sizes(self, write_latents):
        with pytest.raises(ConfigError, match="micro_batch_size is 0; it must be 1 or more"):
            LatentDataModule("nowhere", micro_batch_size=0)
        data = LatentDataModule(write_latents(), micro_batch_size=2, global_batch_size=5)
        with pytest.raises(ConfigError, match=r"not a multiple.*4 and 6"):
            data.train_dataloader()

    def test_missing_folder_and_empty_folder(self, tmp_path):
        with pytest.raises(MissingFileError, match="no file or folder"):
            LatentDataModule(tmp_path / "none").train_dataloader()
        (tmp_path / "empty").mkdir()
        with pytest.raises(MissingFileError, match="holds no shard"):
            LatentDataModule(tmp_path / "empty").train_dataloader()

    def test_missing_control(self, write_latents):
        folder = write_latents(with_actions=False)
        with pytest.raises(SampleError, match=r"sample 's0' .*no 'action.npy'"):
            LatentDataModule(folder, controls=("action",)).train_dataloader()

    def test_curated_shards_are_not_tokenised_ones(self, curated):
        with pytest.raises(SampleError, match="nemo-cosmos tokenize"):
            LatentDataModule(curated).train_dataloader()

    def test_text_longer_than_text_length(self, write_latents):
        data = LatentDataModule(write_latents(tokens=5), text_length=4)
        with pytest.raises(ConfigError, match="at least 5"):
            take(data.train_dataloader(), 1)

    def test_validation_is_one_pass_in_a_fixed_order(self, write_latents):
        folder = write_latents(count=5)
        data = LatentDataModule(folder, val_path=folder, micro_batch_size=2, global_batch_size=2)
        first, second = keys(data.val_dataloader()), keys(data.val_dataloader())
        assert first == second
        assert len(data.val_dataloader()) == 3
        assert {key.split("@")[0] for key in first} == {f"s{number}" for number in range(5)}
        assert LatentDataModule(folder).val_dataloader() == []


class TestResume:
    def test_goes_on_behind_what_was_consumed(self, write_latents):
        folder = write_latents()
        whole = keys(take(LatentDataModule(folder, global_batch_size=1).train_dataloader(), 25))
        resumed = LatentDataModule(folder, global_batch_size=1)
        resumed.load_state_dict({"consumed_samples": 13})
        assert resumed.state_dict() == {"consumed_samples": 13}
        assert keys(take(resumed.train_dataloader(), 12)) == whole[13:]

    def test_state_counts_steps_of_the_trainer_not_batches_fetched(self, write_latents):
        data = LatentDataModule(write_latents(), micro_batch_size=2, global_batch_size=4)
        data.load_state_dict({"consumed_samples": 8})
        data.trainer = SimpleNamespace(global_step=2)
        take(data.train_dataloader(), 6)
        assert data.state_dict()["consumed_samples"] == 8
        data.trainer.global_step = 7
        assert data.state_dict()["consumed_samples"] == 28

    def test_the_state_is_plain_data(self, write_latents):
        data = LatentDataModule(write_latents())
        data.train_dataloader()
        state = data.state_dict()
        assert json.loads(json.dumps(state)) == state

    def test_other_global_batch_size_goes_on_with_the_next_sample(self, write_latents):
        folder = write_latents(count=12)
        first = LatentDataModule(folder, global_batch_size=4)
        seen = keys(take(first.train_dataloader(), 4))
        first.trainer = SimpleNamespace(global_step=1)
        second = LatentDataModule(folder, global_batch_size=2, num_workers=2)
        second.load_state_dict(first.state_dict())
        seen += keys(take(second.train_dataloader(), 8))
        assert sorted(key.split("@")[0] for key in seen) == sorted(f"s{n}" for n in range(12))
        assert [int(key.split("@")[1]) for key in seen] == list(range(12))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seed": 2}, "seed was 1, now 2"),
            ({"shuffle_window": 5}, "shuffle_window was 65536, now 5"),
            ({"image_ratio": 0.0}, "image_ratio was None, now 0.0"),
        ],
    )
    def test_another_order_is_refused(self, write_latents, changes, message):
        folder = write_latents()
        first = LatentDataModule(folder, seed=1)
        first.train_dataloader()
        other = LatentDataModule(folder, **{"seed": 1, **changes})
        other.load_state_dict(first.state_dict())
        with pytest.raises(ConfigError, match=message):
            other.train_dataloader()

    def test_added_shards_are_refused_and_moved_ones_are_not(self, write_latents, tmp_path):
        first = LatentDataModule(write_latents())
        first.train_dataloader()
        moved = LatentDataModule((tmp_path / "latents").rename(tmp_path / "moved"))
        moved.load_state_dict(first.state_dict())
        moved.train_dataloader()
        write_latents("moved", 1, first=50)
        more = LatentDataModule(tmp_path / "moved")
        more.load_state_dict(first.state_dict())
        with pytest.raises(ConfigError, match="some were added"):
            more.train_dataloader()

    def test_ranks_share_the_global_batch_of_one_process(self, write_latents, monkeypatch):
        folder = write_latents()

        def keys_of(rank, world_size):
            monkeypatch.setattr(
                "nemo_cosmos.data.shard_module.data_parallel_place", lambda: (rank, world_size)
            )
            data = LatentDataModule(folder, micro_batch_size=1, global_batch_size=4)
            loader = data.train_dataloader()
            return keys(take(loader, 3 * 4 // world_size))

        alone = keys_of(0, 1)
        both = [keys_of(rank, 2) for rank in (0, 1)]
        for step in range(3):
            together = both[0][2 * step : 2 * step + 2] + both[1][2 * step : 2 * step + 2]
            assert set(together) == set(alone[4 * step : 4 * step + 4])


class TestVideoBatches:
    def module(self, curated, **options):
        values = {"num_frames": 9, "size": (32, 48), "image_ratio": 0.0, **options}
        return VideoDataModule(curated, **values)

    def test_batch_is_what_the_tokenizer_expects(self, curated):
        data = self.module(curated, micro_batch_size=2, global_batch_size=2)
        (batch,) = take(data.train_dataloader(), 1)
        assert batch["video"].shape == (2, 3, 9, 32, 48)
        assert batch["video"].dtype == torch.uint8
        assert batch["fps"].tolist() == [24, 24]

    def test_windows_are_consecutive_frames(self, curated):
        data = self.module(curated, size=(64, 96))
        starts = set()
        for batch in take(data.train_dataloader(), 12):
            red_THW = batch["video"][0, 0].numpy()
            columns = [int(np.argmax(frame[28] > 150)) for frame in red_THW]
            assert np.diff(columns).tolist() == [2] * 8
            starts.add(columns[0])
        assert len(starts) > 3, "the windows do not begin at random places"

    def test_images_in_between(self, curated):
        data = self.module(curated, image_ratio=0.5)
        frames = [batch["video"].shape[2] for batch in take(data.train_dataloader(), 8)]
        assert frames == [9, 1] * 4

    def test_workers_do_not_change_the_windows(self, curated):
        alone, helped = (
            [batch["video"] for batch in take(data.train_dataloader(), 6)]
            for data in (self.module(curated), self.module(curated, num_workers=2))
        )
        for one, other in zip(alone, helped, strict=True):
            assert torch.equal(one, other)

    def test_resume_gives_the_same_windows(self, curated):
        whole = [batch["video"] for batch in take(self.module(curated).train_dataloader(), 8)]
        resumed = self.module(curated)
        resumed.load_state_dict({"consumed_samples": 5})
        for one, other in zip(take(resumed.train_dataloader(), 3), whole[5:], strict=True):
            assert torch.equal(one["video"], other)

    def test_clip_takes_the_longest_length_it_fills(self, curated):
        data = self.module(curated, num_frames=(9, 17, 33))
        (batch,) = take(data.train_dataloader(), 1)
        assert batch["video"].shape[2] == 17

    def test_short_clips_serve_as_images(self, curated, caplog):
        with pytest.raises(SampleError, match="None of the 3 clips"):
            self.module(curated, num_frames=33).train_dataloader()
        assert "serve as images only" in caplog.text

    def test_clip_of_another_aspect_is_cropped_not_squeezed(self, curated):
        data = self.module(curated, size=(64, 64))
        (batch,) = take(data.train_dataloader(), 1)
        assert batch["video"].shape == (1, 3, 9, 64, 64)

    def test_nearest_of_several_sizes(self, curated):
        data = self.module(curated, size=[(32, 32), (32, 48), (48, 32)])
        (batch,) = take(data.train_dataloader(), 1)
        assert batch["video"].shape[3:] == (32, 48)

    def test_decodes_each_clip_once(self, curated, monkeypatch):
        calls = []

        def counting(*args, **kwargs):
            calls.append(1)
            return real(*args, **kwargs)

        import nemo_cosmos.data.loading.clip_cache as module

        real = module.decode
        monkeypatch.setattr(module, "decode", counting)
        take(self.module(curated).train_dataloader(), 20)
        assert len(calls) == 1  # the three clips of the fixture have the same mp4

    def test_validation_windows_are_always_the_same(self, curated):
        data = self.module(curated, val_path=curated)
        first = [batch["video"] for batch in data.val_dataloader()]
        second = [batch["video"] for batch in data.val_dataloader()]
        assert len(first) == 3
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
        assert isinstance(data.val_dataloader().batch_sampler, FiniteRankBatches)

    def test_arguments_are_recorded_for_the_run(self, curated):
        import fiddle as fdl

        data = self.module(curated, num_frames=(9, 17))
        again = fdl.build(data.__io__)
        assert again.lengths == (9, 17)
        assert again.sizes == ((32, 48),)
        latent = LatentDataModule(curated, controls=("action",))
        assert fdl.build(latent.__io__).controls == ("action",)
