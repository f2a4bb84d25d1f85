#!/bin/sh
# The third net under the kernels, and their figures, on a machine with a GPU.
#
#   benches/gpu.sh build [FOLDER]   anywhere: builds and puts what is needed into FOLDER (target/gpu)
#   benches/gpu.sh run [FOLDER]     on the GPU's machine, which needs no Rust: at most ten minutes
#   benches/gpu.sh                  both
#
# `run` writes FOLDER/out: tests.txt, sanitizer-*.txt where compute-sanitizer is installed, figures.jsonl.
set -eu
cd "$(dirname "$0")/.."
what=${1:-both}
folder=${2:-target/gpu}

# The one executable that cargo says it has made.
executable() {
    cargo "$@" --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

if [ "$what" != run ]; then
    mkdir -p "$folder"
    cp "$(executable test --release --test cuda)" "$folder/tests"
    cp "$(executable bench --bench cuda)" "$folder/figures"
fi

if [ "$what" != build ]; then
    out=$folder/out failed=
    mkdir -p "$out"
    "$folder/tests" --nocapture --test-threads=1 > "$out/tests.txt" 2>&1 || { cat "$out/tests.txt"; exit 1; }
    tail -n 3 "$out/tests.txt"
    if command -v compute-sanitizer > /dev/null; then
        for tool in memcheck racecheck initcheck; do
            timeout 100 compute-sanitizer --error-exitcode 1 --tool "$tool" "$folder/tests" --test-threads=1 \
                > "$out/sanitizer-$tool.txt" 2>&1 || failed="$failed $tool"
            tail -n 1 "$out/sanitizer-$tool.txt"
        done
    fi
    timeout 180 "$folder/figures" > "$out/figures.jsonl"
    cat "$out/figures.jsonl"
    [ -z "$failed" ] || { echo "compute-sanitizer:$failed"; exit 1; }
fi
