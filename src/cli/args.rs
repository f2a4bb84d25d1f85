//! What can be typed: clap types and nothing else. Completions and the manual page come from them.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Spiking neural networks with random frozen layers: simulate, train, measure.
#[derive(Debug, Parser)]
#[command(name = "ransnn", version, about, long_about = None, help_expected = true, propagate_version = true)]
#[command(after_help = "Begin with `ransnn init mnist` and `ransnn run mnist.toml`.")]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Folder with the data sets
    #[arg(long, global = true, env = "RANSNN_DATA", value_name = "DIR", help_heading = "Global options")]
    pub data: Option<PathBuf>,
    /// Never use the network
    #[arg(long, global = true, help_heading = "Global options")]
    pub offline: bool,
    /// Threads; 0 takes all cores
    #[arg(long, global = true, env = "RANSNN_THREADS", value_name = "N", help_heading = "Global options")]
    pub threads: Option<usize>,
    /// One JSON document on stdout, and nothing else there
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// How progress is shown, on stderr
    #[arg(long, global = true, value_enum, default_value_t = Style::Auto, help_heading = "Global options")]
    pub progress: Style,
    /// Colours in messages
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, help_heading = "Global options")]
    pub color: Color,
    /// No progress, no notes
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Bars on a terminal, otherwise plain lines
    Auto,
    /// Bars
    #[value(name = "bar")]
    Bars,
    /// A line for each piece of work
    Plain,
    /// Nothing
    None,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: train, test, write a run directory with a report
    Run(Run),
    /// Write a built-in experiment file, or list them
    Init(Init),
    /// Report every mistake in experiment files, without running them
    Check(Check),
    /// Sizes, memory and operations of an experiment, without running it
    Plan(OneFile),
    /// The resolved configuration with every default, or the reference of all keys
    Config(Config),
    /// What is in a run directory
    Show(Show),
    /// Write the HTML report of a run again
    Report(Report),
    /// Finished runs side by side, as a table and plots
    Compare(Compare),
    /// Data sets: list, fetch, verify, add
    #[command(subcommand)]
    Data(Data),
    /// Language models: fine-tune, judge, merge, plan
    #[command(subcommand)]
    Peft(Peft),
    /// Measure speed
    Bench(Bench),
    /// What this machine offers: processor, GPUs, and why CUDA is not usable where it is not
    Devices,
    /// Shell completions on stdout
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

/// `ransnn run`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  ransnn run mnist.toml
  ransnn run mnist.toml --set eval.repeat=3 --json
  ransnn run mnist.toml --set encode.constant.steps=2,4,8
  ransnn run mnist.toml --resume runs/mnist/latest")]
pub struct Run {
    /// Experiment file
    pub file: PathBuf,
    /// Change a value: `--set eval.repeat=3`; several values make a sweep: `--set seed=1,2,3`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Root of the random numbers, instead of the file's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N, instead of the file's
    #[arg(long, env = "RANSNN_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,
    /// Folder for run directories
    #[arg(long, env = "RANSNN_RUNS", value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Continue an interrupted run
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    /// Exit with 1 if the accuracy is below `eval.expect_accuracy`, or statistics are outside of `[expect.NAME]`
    #[arg(long)]
    pub check: bool,
}

/// `ransnn init`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  ransnn init\n  ransnn init mnist --to experiments")]
pub struct Init {
    /// Name of the experiment; without it they are listed
    pub name: Option<String>,
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub to: PathBuf,
}

/// `ransnn check`
#[derive(Args, Debug)]
pub struct Check {
    /// Experiment files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// A verb on one experiment.
#[derive(Args, Debug)]
pub struct OneFile {
    /// Experiment file
    pub file: PathBuf,
    /// Change a value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `ransnn config`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  ransnn config\n  ransnn config mnist.toml --set seed=3")]
pub struct Config {
    /// Experiment file; without it all keys are listed
    pub file: Option<PathBuf>,
    /// Change a value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `ransnn show`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  ransnn show runs/mnist/latest\n  ransnn show runs/mnist/latest --csv > metrics.csv"
)]
pub struct Show {
    /// Run directory
    pub path: PathBuf,
    /// The metrics as CSV
    #[arg(long)]
    pub csv: bool,
}

/// `ransnn report`
#[derive(Args, Debug)]
pub struct Report {
    /// Run directory
    pub path: PathBuf,
}

/// `ransnn compare`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ransnn compare runs/mnist-*/latest --to plots")]
pub struct Compare {
    /// Run directories
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder for accuracy-seconds.svg and accuracy-energy.svg, of simulations for cost.svg
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub to: PathBuf,
}

/// `ransnn data`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  ransnn data fetch mnist\n  ransnn data add mnist --from Downloads")]
pub enum Data {
    /// The data sets that are known, and which are here
    List,
    /// Download a data set and check it
    Fetch {
        /// Name of the data set
        name: String,
    },
    /// Check the files of a data set
    Verify {
        /// Name of the data set
        name: String,
    },
    /// Take the files of a data set from a folder
    Add {
        /// Name of the data set
        name: String,
        /// Folder with the files
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
}

/// `ransnn peft`
#[derive(Debug, Subcommand)]
pub enum Peft {
    /// Fine-tune a model, or train one from nothing, as a file says
    Train(PeftTrain),
    /// Train by several files, each with several learning rates and seeds, and say which method does best
    Compare(PeftCompare),
    /// Judge the model of a run on what it held out, or a model on a task
    Eval(PeftEval),
    /// Compute an adapter into the weights of its model: an ordinary Hugging Face folder
    Merge(PeftMerge),
    /// What is in a model folder, an adapter folder or a run
    Show {
        /// The folder
        path: PathBuf,
    },
    /// Continue a text
    Generate(PeftGenerate),
    /// What fine-tuning a model would take, without loading anything
    Plan(PeftPlan),
}

/// `ransnn peft train`
#[derive(Args, Debug)]
pub struct PeftTrain {
    /// The file
    pub file: PathBuf,
    /// Change a value: `--set train.steps=10`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder for run directories
    #[arg(long, env = "RANSNN_RUNS", value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Continue an interrupted run
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
}

/// `ransnn peft compare`
#[derive(Args, Debug)]
#[command(
    after_help = "Runs that are finished are kept: the same command again goes on where it was stopped."
)]
pub struct PeftCompare {
    /// Files that differ in name and method only
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Learning rates that every method is given; the validation loss chooses
    #[arg(long, value_name = "X,…", value_delimiter = ',', default_value = "3e-4,1e-3,3e-3")]
    pub learning_rates: Vec<f64>,
    /// Seeds
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0,1,2")]
    pub seeds: Vec<u64>,
    /// Validation loss that times are taken to; without it the worst final one of the methods
    #[arg(long, value_name = "LOSS")]
    pub target: Option<f64>,
    /// Change a value in every file: `--set train.steps=10`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder for run directories
    #[arg(long, env = "RANSNN_RUNS", value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Folder for the table, the plots and the report
    #[arg(long, value_name = "DIR", default_value = "comparison")]
    pub to: PathBuf,
}

/// `ransnn peft eval`
#[derive(Args, Debug)]
pub struct PeftEval {
    /// A run directory, or with `--task` a model folder
    pub path: PathBuf,
    /// Judge by a task: sst-2, mrpc, cola, gsm8k, humaneval, mt-bench
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Adapter folder to put on the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Use only the first so many problems
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// New tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub tokens: usize,
    /// How it writes
    #[command(flatten)]
    pub writing: Writing,
    /// Answers to each problem of HumanEval
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub samples: usize,
    /// Every k of pass@k (HumanEval)
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1")]
    pub k: Vec<usize>,
    /// File for the answers to MT-Bench
    #[arg(long, value_name = "FILE", default_value = "answers.jsonl")]
    pub answers: PathBuf,
    /// Have `sh` run this for each answer to MT-Bench: JSON on its standard input, a rating on its standard output
    #[arg(long, value_name = "COMMAND")]
    pub judge: Option<String>,
    /// Seconds for one rating
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub judge_seconds: u64,
    /// Run programs that the model writes; they may do anything that you may do
    #[arg(long)]
    pub allow_code_execution: bool,
}

/// `ransnn peft merge`
#[derive(Args, Debug)]
pub struct PeftMerge {
    /// A run directory, or with `--adapter` a model folder
    pub path: PathBuf,
    /// Adapter folder
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// How a model writes.
#[derive(Args, Debug)]
pub struct Writing {
    /// `bytes`, a folder or a file, instead of the model's tokenizer
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<String>,
    /// 0 takes the likeliest token
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw from the likeliest tokens whose probabilities add up to this
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub top_p: f64,
    /// Root of the random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// `ransnn peft generate`
#[derive(Args, Debug)]
pub struct PeftGenerate {
    /// Model folder
    pub model: PathBuf,
    /// The text to continue
    pub prompt: String,
    /// Adapter folder to put on the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// New tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub tokens: usize,
    /// How it writes
    #[command(flatten)]
    pub writing: Writing,
    /// Store weights as bf16
    #[arg(long)]
    pub bf16: bool,
}

/// `ransnn peft plan`
#[derive(Args, Debug)]
pub struct PeftPlan {
    /// A name such as llama3.1-8b, a folder with config.json, or that file
    pub model: String,
    /// full, full-mixed, lora, dora, boft, urnn, hybrid
    #[arg(long, value_name = "NAME", default_value = "lora")]
    pub method: String,
    /// r of LoRA
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub rank: u64,
    /// Size of a block of BOFT
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub block: u64,
    /// Butterfly factors of BOFT
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub factors: u64,
    /// query-value, attention, feed-forward, all
    #[arg(long, value_name = "NAME", default_value = "all")]
    pub targets: String,
    /// f32, bf16, int8, nf4
    #[arg(long, value_name = "NAME", default_value = "bf16")]
    pub precision: String,
    /// Texts of a step on one GPU
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: u64,
    /// Tokens of a text
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub length: u64,
    /// GPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub gpus: u64,
    /// What GPUs share: 3 for weights, gradients and states (ZeRO-3, FSDP), 2 for gradients and states (ZeRO-2)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub zero: u8,
    /// Numbers of a bucket of gradients (ZeRO-2), of which there are two
    #[arg(long, value_name = "N", default_value_t = 500_000_000)]
    pub bucket: u64,
    /// Compute blocks a second time on the way back
    #[arg(long)]
    pub recompute: bool,
    /// How the loss is taken: in f32, same (the type of the logits), in pieces
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub loss: String,
    /// Operations a second that a GPU achieves
    #[arg(long, value_name = "X", default_value_t = 1e14)]
    pub flops: f64,
    /// Bytes a second between GPUs
    #[arg(long, value_name = "X", default_value_t = 1e11)]
    pub bandwidth: f64,
}

/// `ransnn bench`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ransnn bench reservoir/features --threads 1 --json")]
pub struct Bench {
    /// Cases, for example `reservoir/features`; without any they are listed
    pub cases: Vec<String>,
    /// Timed repeats
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub repeats: usize,
    /// cpu, cuda, cuda:N, or auto: a GPU for cases that run on one
    #[arg(long, env = "RANSNN_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

/// `ransnn completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `ransnn man`
#[derive(Args, Debug)]
pub struct Man {
    /// Folder to write to
    pub dir: PathBuf,
}
