#!/bin/sh
# Fetches the run-time compiler of CUDA kernels (libnvrtc, from PyPI) into target/nvrtc, once, and prints the folder that
# RANSNN_NVRTC is to name:
#
#   RANSNN_NVRTC=$(.ci/nvrtc.sh) cargo test --test kernels_compile -- --nocapture
set -eu
cd "$(dirname "$0")/.."
target=target/nvrtc
if ! ls "$target"/nvidia/*/lib/libnvrtc.so.* >/dev/null 2>&1; then
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$target" 'nvidia-cuda-nvrtc>=13,<14' >&2
fi
set -- "$PWD/$target"/nvidia/*/lib
echo "$1"
