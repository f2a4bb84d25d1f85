#!/bin/sh
# The third net under the kernels, and their figures, on a machine with a GPU.
#
#   benches/gpu.sh build [FOLDER]   anywhere: builds and puts what is needed into FOLDER (target/gpu) and FOLDER.tar.gz
#   benches/gpu.sh run [FOLDER]     on the GPU's machine, which needs no Rust, with either of them: at most ten minutes
#   benches/gpu.sh                  both
#
# `run` writes FOLDER/out: tests.txt, figures.jsonl (kernel by kernel), bench.json (the cases of `ransnn bench` that a GPU
# runs, there and on the CPU), mnist.json (the main job there, with MNIST if RANSNN_DATA had it while building, else with
# `strokes`), and last sanitizer-*.txt where compute-sanitizer is installed.
set -eu
cd "$(dirname "$0")/.."
what=${1:-both}
folder=${2:-target/gpu}

# The one executable that cargo says it has made.
executable() {
    cargo "$@" --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# At most so many seconds, and not beyond ten minutes since `begun`.
within() {
    most=$1 left=$((begun + 590 - $(date +%s)))
    shift
    [ "$left" -ge "$most" ] || most=$left
    [ "$most" -gt 0 ] && timeout "$most" "$@"
}

if [ "$what" != run ]; then
    mkdir -p "$folder"
    cp "$(executable test --release --test cuda)" "$folder/tests"
    cp "$(executable bench --bench cuda)" "$folder/figures"
    cargo build --release
    cp target/release/ransnn mnist.toml "$folder"
    mkdir -p "$folder/data"
    if [ -d "${RANSNN_DATA:-}/mnist" ]; then cp -r "$RANSNN_DATA/mnist" "$folder/data"; fi
    tar -czf "$folder.tar.gz" -C "$folder" tests figures ransnn mnist.toml data
fi

if [ "$what" != build ]; then
    begun=$(date +%s)
    out=$folder/out failed=
    mkdir -p "$out"
    [ -e "$folder/tests" ] || tar -xzf "$folder.tar.gz" -C "$folder"
    within 240 "$folder/tests" --nocapture --test-threads=1 > "$out/tests.txt" 2>&1 || { cat "$out/tests.txt"; exit 1; }
    tail -n 3 "$out/tests.txt"
    within 120 "$folder/figures" > "$out/figures.jsonl" || failed="$failed figures"
    cat "$out/figures.jsonl"
    for case in reservoir/features reservoir/conv sim/vogels-abbott-cuba sim/brunel sim/feedforward sim/microcircuit-full; do
        for device in cuda cpu; do
            within 60 "$folder/ransnn" bench "$case" --device "$device" --repeats 3 --json --progress none \
                || failed="$failed $case:$device"
        done
    done > "$out/bench.json"
    cat "$out/bench.json"
    within 60 "$folder/ransnn" --data "$folder/data" run "$folder/mnist.toml" --device cuda --json --out "$out/runs" \
        > "$out/mnist.json" || failed="$failed mnist.toml"
    cat "$out/mnist.json"
    if command -v compute-sanitizer > /dev/null; then
        for tool in memcheck racecheck initcheck; do
            within 100 compute-sanitizer --error-exitcode 1 --tool "$tool" "$folder/tests" --test-threads=1 \
                > "$out/sanitizer-$tool.txt" 2>&1 || failed="$failed $tool"
            tail -n 1 "$out/sanitizer-$tool.txt"
        done
    fi
    [ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
fi
