"""Structure from motion of a folder of pictures, in a process of its own.

COLMAP and OpenCV bring two builds of the same libraries, and a process that has loaded both ends in
zlib. So this file is run as a script, imports nothing of this package, and talks in files::

    python -P sfm_process.py FOLDER    # reads FOLDER/task.json and FOLDER/pictures/*.png
                                       # writes FOLDER/poses.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_SEED = 0


def main(folder: Path) -> None:
    """Reconstruct the pictures and write the camera-to-world matrix of each that has a place.

    Args:
        folder: the task and its pictures; what is made on the way goes there, too.
    """
    os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 - COLMAP tells every step
    import pycolmap

    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    pycolmap.set_random_seed(_SEED)
    database, pictures, models = folder / "colmap.db", folder / "pictures", folder / "models"
    lens = task["fx_fy_cx_cy"]
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "PINHOLE" if lens else "SIMPLE_PINHOLE"
    reader.camera_params = ",".join(f"{number:.9g}" for number in lens or ())
    pycolmap.extract_features(
        database,
        pictures,
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader,
        device=pycolmap.Device.cpu,
    )
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = _SEED
    pycolmap.match_exhaustive(
        database, verification_options=verification, device=pycolmap.Device.cpu
    )
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = 3
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = _SEED
    options.num_threads = options.mapper.num_threads = 1  # else sums come out in another order
    options.extract_colors = False
    if lens:  # what is left to find is the path
        options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = False
        options.ba_refine_extra_params = options.mapper.abs_pose_refine_extra_params = False
    models.mkdir()
    found = pycolmap.incremental_mapping(database, pictures, models, options)
    poses = {}
    if found:
        largest = max(found.values(), key=lambda model: model.num_reg_images())
        for picture in largest.images.values():
            if picture.has_pose:
                world = picture.cam_from_world().inverse()
                poses[picture.name] = [list(row) for row in world.matrix()]
    (folder / "poses.json").write_text(json.dumps(poses), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
