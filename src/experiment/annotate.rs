//! The resolved configuration with a line of documentation at each key: the reference of the schema.

use super::{neuron, simulate, train};
use crate::document;

/// Documentation by key path; `*` stands for a name of the user's.
pub const KEYS: &[(&str, &str)] = &[
    ("schema", "version of this format"),
    ("name", "names the run directory"),
    ("seed", "root of every random number"),
    ("run.device", "auto, cpu, cuda or cuda:N"),
    ("run.threads", "0 takes all cores; results do not depend on it"),
    ("run.checkpoint_every", "mini-batches between checkpoints of an iterative solver"),
    ("data.dataset", "a name from `ransnn data list`"),
    ("data.path", "instead of `dataset`: your own .csv or .npz file, or recordings of an event camera"),
    ("data.fallback", "without the data set: none (stop) or strokes (built-in digits)"),
    ("data.train_limit", "first so many training samples; 0 for all"),
    ("data.test_limit", "first so many test samples; 0 for all"),
    ("data.validation", "samples at the end of the training set held out for eval.on = \"validation\""),
    ("data.label_column", "column with the labels of a .csv file; the last one if absent"),
    ("data.test_share", "share of a file of your own that becomes the test set"),
    ("encode.constant.steps", "time steps T; the intensity is a constant input current"),
    ("encode.poisson.steps", "time steps T; a spike in each with probability intensity × max_rate_hz × dt"),
    ("encode.poisson.dt_ms", "length of a step"),
    ("encode.poisson.max_rate_hz", "rate at full intensity"),
    ("encode.latency.steps", "time steps T; one spike, the earlier the brighter"),
    ("encode.events.steps", "time steps T; each event of a recording is a spike of its place"),
    ("encode.events.step_ms", "length of a step; what happens after the last one is left out"),
    ("population.*.shape", "number of neurons, or [channels, height, width]"),
    (
        "population.*.neuron",
        "input (takes the samples), lif, synaptic or alif = { … }, or a model in physical units",
    ),
    ("population.*.neuron.lif.beta", "membrane factor per step"),
    ("population.*.neuron.lif.tau_mem_ms", "instead of beta: membrane time constant"),
    ("population.*.neuron.lif.threshold", "firing threshold"),
    ("population.*.neuron.lif.reset", "what a spike does: subtract, zero or none"),
    (
        "population.*.neuron.lif.dialect",
        "ransnn (≥, reset at once), snntorch (>, reset one step late), spikingjelly (as ransnn, input times 1 − β)",
    ),
    ("population.*.neuron.synaptic.alpha", "factor on the synaptic current per step"),
    ("population.*.neuron.synaptic.tau_syn_ms", "instead of alpha: synaptic time constant"),
    ("population.*.neuron.synaptic.beta", "membrane factor per step"),
    ("population.*.neuron.synaptic.tau_mem_ms", "instead of beta: membrane time constant"),
    ("population.*.neuron.synaptic.threshold", "firing threshold"),
    ("population.*.neuron.synaptic.reset", "what a spike does: subtract, zero or none"),
    ("population.*.neuron.alif.beta", "membrane factor per step"),
    ("population.*.neuron.alif.tau_mem_ms", "instead of beta: membrane time constant"),
    ("population.*.neuron.alif.rho", "factor on the adaptation per step"),
    ("population.*.neuron.alif.tau_adaptation_ms", "instead of rho: time constant of the adaptation"),
    ("population.*.neuron.alif.adaptation", "what a spike adds to the threshold"),
    ("population.*.neuron.alif.threshold", "firing threshold of a neuron that has not fired"),
    ("population.*.neuron.alif.reset", "what a spike does: subtract, zero or none"),
    ("projection.*.from", "source population"),
    ("projection.*.to", "target population"),
    ("projection.*.connect", "dense, one-to-one, or one of the tables below"),
    ("projection.*.connect.fixed-probability.p", "each pair with this probability"),
    ("projection.*.connect.fixed-in-degree.k", "each target from k random sources"),
    ("projection.*.connect.conv2d.kernel", "side of the kernel"),
    ("projection.*.connect.conv2d.stride", "step between neighbouring targets"),
    ("projection.*.connect.conv2d.padding", "zeros added on each side"),
    (
        "projection.*.connect.conv2d.pool",
        "side of the windows over which the source is averaged first; 1 for none",
    ),
    (
        "projection.*.connect.conv2d.max_pool",
        "side of the windows whose largest current drives a target; 1 for none",
    ),
    ("projection.*.connect.local-fields.min", "smallest side of the random square windows"),
    ("projection.*.connect.local-fields.max", "largest side"),
    ("projection.*.weights", "kaiming-uniform, or one of the tables below"),
    ("projection.*.weights.constant", "all the same"),
    ("projection.*.weights.uniform.low", "lower bound"),
    ("projection.*.weights.uniform.high", "upper bound"),
    ("projection.*.weights.normal.mean", "mean"),
    ("projection.*.weights.normal.std", "standard deviation"),
    ("projection.*.bias", "as weights; none if absent"),
    ("projection.*.bias.constant", "all the same"),
    ("projection.*.bias.uniform.low", "lower bound"),
    ("projection.*.bias.uniform.high", "upper bound"),
    ("projection.*.bias.normal.mean", "mean"),
    ("projection.*.bias.normal.std", "standard deviation"),
    ("projection.*.zero_mean", "subtract from each target's weights their mean"),
    ("projection.*.smooth", "smooth the kernels with a Gaussian of so many pixels; 0 for none"),
    ("projection.*.mirror", "the second half of the channels gets the first half's kernels, negated"),
    ("projection.*.excitatory_share", "Dale's law: this share of the sources excites, the others inhibit"),
    ("projection.*.gain", "factor on the weights, or how to find it on a calibration batch"),
    ("projection.*.gain.fixed", "this factor"),
    ("projection.*.gain.rms-drive", "root mean square of the input current of each neuron or channel"),
    ("projection.*.gain.firing-rate", "mean share of steps with a spike"),
    ("projection.*.delay_ms", "time from a spike to its effect; without it a spike acts in its own step"),
    ("projection.*.frozen", "never trained"),
    ("projection.*.precision", "int8 (exact sums), f32, or auto: int8 where frozen"),
    ("features.from", "populations that the readout sees"),
    ("features.record", "counts, membrane, or one of the tables below"),
    ("features.record.trace.decay", "low-pass filtered spikes: factor per step"),
    ("features.record.bins", "counts in so many equal bins of time"),
    ("features.pool.cells", "sum counts over so many square windows along each side; 0 for no pooling"),
    ("features.pool.width", "width of a window as a multiple of the distance between windows"),
    ("features.transform", "none or sqrt"),
    ("features.levels", "round to so many levels; 0 keeps counts as they are"),
    ("train.ransnn.solver.ridge.lambda", "strengths to choose from, on standardised features"),
    ("train.ransnn.solver.ridge.select_rows", "training samples on which leave-one-out chooses"),
    (
        "train.ransnn.solver.ridge.rows",
        "training samples in the normal equations; 0 for all; with hinge, a part is enough",
    ),
    ("train.ransnn.solver.ridge.hinge", "steps of squared-hinge refinement after the ridge; 0 for none"),
    ("train.ransnn.solver.ridge.hinge_lambda", "strength of the penalty in the refinement, per sample"),
    ("train.ransnn.solver.adam.lr", "learning rate"),
    ("train.ransnn.solver.adam.batch", "samples in a mini-batch"),
    ("train.ransnn.solver.adam.epochs", "passes over the training set"),
    ("train.ransnn.solver.adam.batches", "stop after so many mini-batches; 0 for whole passes"),
    ("eval.repeat", "runs with seeds seed, seed + 1, …"),
    ("eval.on", "test, or validation while choosing hyper-parameters"),
    ("eval.expect_accuracy", "`ransnn run --check` fails below it"),
    ("sweep.*", "values of a key, one run each"),
];

/// Every documented key.
pub fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    KEYS.iter().chain(neuron::KEYS).chain(train::config::keys())
}

/// Documentation of a key path, where there is any.
pub fn documentation(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('.').collect();
    let matches = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let sweep = pattern[0] == "sweep" && parts[0] == "sweep";
        sweep
            || pattern.len() == parts.len()
                && pattern.iter().zip(&parts).all(|(p, part)| *p == "*" || p == part)
    };
    all().chain(simulate::KEYS).find(|(pattern, _)| matches(pattern)).map(|(_, text)| *text)
}

/// The configuration as TOML, every default written out, with its documentation.
pub fn annotated(config: &impl serde::Serialize) -> String {
    let text = document::text(config).unwrap_or_default();
    let mut table = String::new();
    let mut out = String::new();
    for line in text.lines() {
        let path = if let Some(head) = line.strip_prefix('[') {
            table = head.trim_matches(['[', ']']).replace('"', "");
            None
        } else {
            line.split_once(" = ")
                .map(|(key, _)| if table.is_empty() { key.into() } else { format!("{table}.{key}") })
        };
        match path.and_then(|path: String| documentation(&path)) {
            Some(text) => out.push_str(&format!("{line}  # {text}\n")),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// The whole schema as commented text.
pub fn reference() -> String {
    let mut out = String::from("# Every key of an experiment file; NAME is a name of yours.\n");
    for (path, text) in all().chain(simulate::KEYS) {
        out.push_str(&format!("{:<48} # {text}\n", path.replace('*', "NAME")));
    }
    out
}
