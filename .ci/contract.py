"""Checks the JSON that other tools rely on: `contract.py run|simulate|bench FILE`. See docs/conventions.md."""

import json
import math
import os
import sys

ACCURACIES = ["test.accuracy", "train.accuracy"]
RUN = {
    "schema": int,
    "name": str,
    "status": str,
    "dataset": str,
    "test.accuracy": float,
    "train.accuracy": float,
    **{f"seconds.{phase}": float for phase in ["data", "features", "fit", "test", "total"]},
    "spikes.per_sample": float,
    "synaptic_operations.per_sample": float,
    "memory.peak_rss_bytes": int,
    "parameters.trained": int,
    "parameters.frozen": int,
}
SIMULATE = {
    "schema": int,
    "kind": str,
    "name": str,
    "status": str,
    "neurons": int,
    "synapses": int,
    "bytes_per_synapse": float,
    "spikes": int,
    "synaptic_events": int,
    "synaptic_events_per_second": float,
    "real_time_factor": float,
    **{f"seconds.{phase}": float for phase in ["build", "simulate", "write", "total"]},
    "memory.peak_rss_bytes": int,
}
POPULATION = {"neurons": int, "spikes": int, "rate_hz": float}
BENCH = {
    "schema": int,
    "case": str,
    "threads": int,
    "value": float,
    "unit": str,
    "repeats": int,
    "median_seconds": float,
    "spread": float,
    "peak_rss_bytes": int,
    "floor.seconds": float,
    "floor.what": str,
}
UNITS = ["samples/s", "synaptic_events/s", "tokens/s", "s/step"]


def value(document, path):
    for key in path.split("."):
        if not isinstance(document, dict) or key not in document:
            sys.exit(f"`{path}` is missing")
        document = document[key]
    # Over several seeds a number is {mean, std, values}.
    if isinstance(document, dict):
        if sorted(document) != ["mean", "std", "values"] or len(document["values"]) < 2:
            sys.exit(f"`{path}` is neither a number nor {{mean, std, values}}: {document}")
        document = document["mean"]
    return document


def check(document, contract):
    for path, kind in contract.items():
        got = value(document, path)
        number = isinstance(got, (int, float)) and not isinstance(got, bool)
        if not (isinstance(got, kind) or kind is float and number):
            sys.exit(f"`{path}` is {got!r}; it must be {kind.__name__}")
        if number and not (math.isfinite(got) and got >= 0):
            sys.exit(f"`{path}` is {got}; it must be a number of at least 0")


def refuse(constant):
    sys.exit(f"`{constant}` is no JSON")


def main(kind, path):
    with open(path, encoding="utf-8") as file:
        document = json.load(file, parse_constant=refuse)
    if kind == "bench":
        check(document, BENCH)
        if document["unit"] not in UNITS:
            sys.exit(f"unit {document['unit']!r} is none of {UNITS}")
        print(f"{document['case']}: {document['value']:.4g} {document['unit']}")
        return
    if kind == "simulate":
        check(document, SIMULATE)
        for population in document["populations"].values():
            check(population, POPULATION)
        if document["status"] != "ok" or document["synaptic_events"] == 0:
            sys.exit("nothing was simulated")
        print(f"{document['name']}: {document['synaptic_events_per_second']:.4g} synaptic events/s")
        return
    check(document, RUN)
    if document["status"] != "ok":
        sys.exit(f"status is {document['status']!r}")
    for path in ACCURACIES:
        if not 0 < value(document, path) <= 1:
            sys.exit(f"`{path}` must be a fraction above 0")
    for path in ["spikes.per_sample", "synaptic_operations.per_sample", "parameters.trained", "seconds.total"]:
        if value(document, path) <= 0:
            sys.exit(f"`{path}` must be above 0")
    directory = document.get("run_directory")
    if directory:
        with open(os.path.join(directory, "summary.json"), encoding="utf-8") as file:
            if json.load(file)["test"] != document["test"]:
                sys.exit("summary.json tells another accuracy than stdout")
        if not any(name.endswith(".html") for name in os.listdir(directory)):
            sys.exit("the run directory has no report")
    print(f"{document['name']} on {document['dataset']}: test accuracy {value(document, 'test.accuracy'):.4f}")


main(*sys.argv[1:])
