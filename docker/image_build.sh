#!/usr/bin/env bash
# Build the CPU stage of the Dockerfile where no image registry can be reached: Debian's packages make the
# base image, buildah builds on it, and the result is tried. As root, on Debian or Ubuntu:
#   apt-get install buildah mmdebstrap
#   bash docker/image_build.sh FOLDER      leaves nemo-cosmos-cpu.tar and its SBOM (CycloneDX) there
# VOLUMES    "/etc/pip.conf:/etc/pip.conf:ro ..." what pip needs of this machine to reach its index
# TORCH_INDEX  the index of torch's CPU builds, where the Dockerfile's cannot be reached
# STORAGE_DRIVER  overlay where the kernel allows it, else vfs
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(realpath -m "${1:?bash docker/image_build.sh FOLDER}")
mkdir -p "$work"
for program in buildah mmdebstrap; do
  command -v "$program" > /dev/null || { echo "$program is missing: apt-get install buildah mmdebstrap" >&2; exit 1; }
done
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
read -ra given <<< "${VOLUMES:-}"
volumes=()
for volume in "${given[@]}"; do volumes+=(--volume "$volume"); done
image() { buildah --root "$work/store" --runroot "$work/run" "$@"; }

# Python 3.11 of Debian 12 in the place of the image python:3.11-slim-bookworm.
if ! image inspect --type image localhost/python-base > /dev/null 2>&1; then
  mkdir -p "$work/base"
  mmdebstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$work/base/rootfs.tar"
  cat > "$work/base/Dockerfile" << 'DOCKERFILE'
FROM scratch
ADD rootfs.tar /
# As in the image that it stands for: Python belongs to the user, and is called python.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
RUN ln -s /usr/bin/python3 /usr/local/bin/python
DOCKERFILE
  image bud --quiet --tag localhost/python-base --file "$work/base/Dockerfile" "$work/base"
  rm -r "$work/base"
fi

# Docker's format keeps HEALTHCHECK; OCI's has no place for it.
image bud --format docker --target cpu --tag localhost/nemo-cosmos:cpu --network host "${volumes[@]}" \
  --build-arg PYTHON_IMAGE=localhost/python-base ${TORCH_INDEX:+--build-arg "TORCH_INDEX=$TORCH_INDEX"} \
  --file "$root/Dockerfile" "$root"

# What a test or the SBOM needs lies beside the image, whose own packages stay as they are.
[ -d "$work/tools" ] || python3.11 -m pip install --quiet --target "$work/tools" \
  cyclonedx-bom==7.5.0 pytest pytest-timeout hypothesis
image rm nemo-cosmos-trial > /dev/null 2>&1 || true  # of a build that was interrupted
container=$(image from --name nemo-cosmos-trial localhost/nemo-cosmos:cpu)
trap 'image rm nemo-cosmos-trial > /dev/null' EXIT
inside() {
  image run --user "${user:-cosmos}" --volume "$work/tools:/tools:ro" --volume "$root:/source:ro" \
    "$container" -- "$@"
}
with_tools='import runpy, sys; sys.path.append("/tools"); sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)'

echo "--- its user, health check and labels" >&2
image inspect --type image localhost/nemo-cosmos:cpu > "$work/inspected.json"
python3 - "$work/inspected.json" << 'PYTHON'
import json
import sys

found = json.load(open(sys.argv[1]))["Docker"]["config"]
assert found["User"] == "cosmos" and found["Healthcheck"]["Test"][0] == "CMD", found
assert "org.opencontainers.image.title" in found["Labels"], found["Labels"]
print(found["User"], found["Healthcheck"]["Test"], *found["Labels"].values(), sep=", ", file=sys.stderr)
PYTHON
echo "--- its command, as its user" >&2
[ "$(inside id -u)" != 0 ]
inside nemo-cosmos --version
inside nemo-cosmos status --machine
echo "--- its tests" >&2
# -P: the installed packages are tested, and not the sources beside the tests.
inside bash -c 'cd /source && PYTHONDONTWRITEBYTECODE=1 python -P -c "$0" pytest -q -p no:cacheprovider "$@"' \
  "$with_tools" tests/unit/test_exits.py tests/unit/test_options.py tests/unit/platform/test_ranks.py \
  tests/unit/platform/test_cpu_backend.py tests/unit/video
echo "--- its SBOM" >&2
inside python -P -c "$with_tools" cyclonedx_py environment /usr/bin/python3 --of JSON > "$work/nemo-cosmos-cpu.cdx.json"
python3 - "$work/nemo-cosmos-cpu.cdx.json" << 'PYTHON'
import json
import sys

found = json.load(open(sys.argv[1]))
names = {part["name"] for part in found["components"]}
assert {"torch", "nemo-cosmos", "megatron-core"} <= names, sorted(names)
print(f"{len(names)} components, {found['bomFormat']} {found['specVersion']}", file=sys.stderr)
PYTHON
echo "--- its archive" >&2
# An archive that is there already is not replaced, and one that was cut off must not look whole.
rm -f "$work/nemo-cosmos-cpu.tar" "$work/part.tar"
image push --quiet localhost/nemo-cosmos:cpu "docker-archive:$work/part.tar:nemo-cosmos:cpu"
tar -tf "$work/part.tar" > /dev/null
mv "$work/part.tar" "$work/nemo-cosmos-cpu.tar"
image images
