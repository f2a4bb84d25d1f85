//! What each verb of `ransnn peft` does.

use super::args::{self, Global, Peft};
use super::verbs::{json, kernels, store, threads, write_json};
use super::{print, progress};
use crate::data::Store;
use crate::document;
use crate::experiment::diagnose::{Source, suggestion};
use crate::experiment::peft::{
    self, code,
    compare::{self, Kept},
    config::Config,
    judge::{self, Judge},
};
use crate::experiment::run_dir::RunDir;
use crate::files::{read_text, write_atomic};
use crate::models::finetune::{Evaluation, data, evaluate};
use crate::models::plan::{self, Loss, Method, Precision, Request, Sharding, Targets};
use crate::models::tasks::{ModelWriter, Writer, glue, gsm8k, humaneval, mt_bench};
use crate::models::{self, Generation, Model, Tokenizer, Weights};
use crate::progress::{Progress, Unit};
use crate::tensor::DType;
use crate::{Error, Result};
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::Path;

pub fn dispatch(global: &Global, verb: Peft) -> Result<()> {
    progress::handle_interrupt();
    match verb {
        Peft::Train(train) => self::train(global, &train),
        Peft::Compare(compare) => self::compare(global, &compare),
        Peft::Eval(eval) => with_threads(global, 0, || self::eval(global, &eval)),
        Peft::Merge(merge) => with_threads(global, 0, || self::merge(global, &merge)),
        Peft::Show { path } => show(global, &path),
        Peft::Generate(generate) => with_threads(global, 0, || self::generate(global, &generate)),
        Peft::Plan(plan) => self::plan(global, &plan),
    }
}

fn with_threads<R: Send>(
    global: &Global,
    config: usize,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads(global, config)?).build();
    pool.map_err(|e| Error::Internal(e.to_string()))?.install(work)
}

fn train(global: &Global, train: &args::PeftTrain) -> Result<()> {
    let (file, text) = (train.file.display().to_string(), read_text(&train.file)?);
    let config = Config::load(&Source::new(&file, &text, &train.set)?)?;
    let resolved = document::text(&config).map_err(|e| Error::Internal(e.to_string()))?;
    let run_dir = match &train.resume {
        Some(path) => {
            let run_dir = RunDir::open(path)?;
            if read_text(&run_dir.file("config.toml"))? != resolved {
                return Err(Error::data(path, "the run was started with another configuration"));
            }
            run_dir
        }
        None => {
            let hash = crate::experiment::run_dir::text_hash(&resolved);
            RunDir::create_as(&train.out, [&config.name, &hash], &resolved, &text, &train.set)?
        }
    };
    let Store { dir, .. } = store(global)?;
    let mut console = progress::Console::new(global.progress, global.quiet);
    let (resume, json_wanted) = (train.resume.is_some(), global.json);
    let kernels = kernels();
    let summary = with_threads(global, config.train.threads, || {
        let kernels = kernels.as_deref();
        let mut cx = peft::Context { data: &dir, run_dir: &run_dir, resume, kernels, progress: &mut console };
        peft::train(&config, &mut cx)
    })?;
    if json_wanted {
        return json(&summary);
    }
    let mut text = format!(
        "{}  {} of {} trained, {} steps in {:.1} s\n\n",
        summary.name, summary.trained, summary.parameters, summary.steps, summary.seconds
    );
    text += &summary.loss.map_or(String::new(), |loss| format!("  training loss    {loss:.4}\n"));
    let judged = [("before", &summary.before), ("after", &summary.after), ("test", &summary.test)];
    for (when, evaluation) in judged {
        if let Some(evaluation) = evaluation {
            text += &format!("  {when:<8} {}\n", in_words(evaluation));
        }
    }
    print(&format!("{text}\n{}\n", summary.result.display()))
}

fn compare(global: &Global, args: &args::PeftCompare) -> Result<()> {
    for &rate in &args.learning_rates {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Error::value("a learning rate", rate, "above 0"));
        }
    }
    let runs = compare::runs(&args.files, &args.set, &args.learning_rates, &args.seeds)?;
    let Store { dir, .. } = store(global)?;
    let mut console = progress::Console::new(global.progress, global.quiet);
    // Files differ in their method alone: a seed has one base.
    let mut bases: BTreeMap<u64, String> = BTreeMap::new();
    let mut outcomes = vec![];
    console.start("compare", Some(runs.len() as u64), Unit::Steps);
    for run in &runs {
        let seed = run.config.seed;
        if let Entry::Vacant(base) = bases.entry(seed) {
            base.insert(peft::fingerprint(&run.config, &dir)?);
        }
        if console.interrupted() {
            return Err(Error::Interrupted { checkpoint: None });
        }
        let outcome = match run.kept(&args.out, &bases[&seed])? {
            Kept::Whole(outcome) => outcome,
            part => {
                let said = launch(global, run, &args.out, &dir, part)?;
                match run.kept(&args.out, &bases[&seed])? {
                    Kept::Whole(outcome) => outcome,
                    _ => return Err(Error::data(&run.file, format!("a run failed: {}", said.trim()))),
                }
            }
        };
        console.note(&outcome.to_string());
        console.advance(1);
        outcomes.push(*outcome);
    }
    console.finish();
    let comparison = compare::compare(&runs, outcomes, args.target)?;
    std::fs::create_dir_all(&args.to).map_err(Error::io("create", &args.to))?;
    let write = |name: &str, text: &str| write_atomic(&args.to.join(name), text.as_bytes());
    write_json(&args.to.join("comparison.json"), &comparison)?;
    write("comparison.csv", &comparison.csv()?)?;
    for (name, plot) in comparison.plots() {
        write(&name, &plot.svg()?)?;
    }
    let report = args.to.join("comparison.html");
    comparison.page().write_html(&report)?;
    match global.json {
        true => json(&comparison),
        false => print(&format!("{}\n{}\n", comparison.markdown(), report.display())),
    }
}

/// Trains in a process of its own, so that its largest memory is that of this run alone. What it said on stderr.
fn launch(global: &Global, run: &compare::Run, out: &Path, data: &Path, part: Kept) -> Result<String> {
    let program = std::env::current_exe().map_err(Error::io("find", "the program itself"))?;
    let mut command = std::process::Command::new(&program);
    command
        .args(["peft", "train"])
        .arg(&run.file)
        .arg("--out")
        .arg(out)
        .arg("--data")
        .arg(data)
        .arg("--quiet");
    run.set.iter().for_each(|set| _ = command.arg("--set").arg(set));
    global.threads.iter().for_each(|threads| _ = command.arg("--threads").arg(threads.to_string()));
    if let Kept::Part(run_dir) = part {
        command.arg("--resume").arg(run_dir);
    }
    let output = command.stdin(std::process::Stdio::null()).output().map_err(Error::io("run", &program))?;
    // It had the same Ctrl-C and has written a checkpoint.
    match output.status.code() {
        Some(130) => Err(Error::Interrupted { checkpoint: None }),
        _ => Ok(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn in_words(evaluation: &Evaluation) -> String {
    let mut text = format!("loss {:.4}", evaluation.loss);
    let parts = [
        ("perplexity", evaluation.perplexity),
        ("accuracy", evaluation.accuracy),
        ("F1", evaluation.f1),
        ("Matthews", evaluation.matthews),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            text += &format!("  {name} {value:.4}");
        }
    }
    text
}

fn run_config(run_dir: &RunDir) -> Result<Config> {
    let path = run_dir.file("config.toml");
    Config::load(&Source::new(&path.display().to_string(), &read_text(&path)?, &[])?)
}

/// A model folder with an adapter folder on it.
fn open(folder: &Path, adapter: Option<&Path>, dtype: DType) -> Result<Model> {
    let mut model = Model::open(folder, dtype)?;
    if let Some(adapter) = adapter {
        crate::peft::load(&mut model, adapter, "default")?;
    }
    model.must_be_finite()?;
    Ok(model)
}

fn eval(global: &Global, eval: &args::PeftEval) -> Result<()> {
    let Store { dir, .. } = store(global)?;
    // Refused before anything is loaded.
    let name = eval.task.as_ref().map(|task| task.to_lowercase()).unwrap_or_default();
    if name != "humaneval" && (eval.samples != 1 || eval.k != [1]) {
        return Err(Error::value("--samples or --k", "given", "nothing: only HumanEval has several samples"));
    }
    if name != "mt-bench" && eval.judge.is_some() {
        return Err(Error::value("--judge", "given", "nothing: only answers to MT-Bench are rated"));
    }
    code::estimable(&eval.k, eval.samples)?;
    if eval.samples > 1 && eval.writing.temperature == 0.0 {
        return Err(Error::value("the temperature", 0, "above 0: otherwise all samples are the same"));
    }
    let Some(task) = &eval.task else {
        let run_dir = RunDir::open(&eval.path)?;
        let evaluation = peft::evaluate(&run_config(&run_dir)?, &run_dir, &dir)?;
        return if global.json { json(&evaluation) } else { print(&format!("{}\n", in_words(&evaluation))) };
    };
    let permission =
        (name == "humaneval").then(|| code::Permission::new(eval.allow_code_execution)).transpose()?;
    let model = open(&eval.path, eval.adapter.as_deref(), DType::F32)?;
    let tokenizer = tokenizer(&eval.writing, &eval.path)?;
    let mut console = progress::Console::new(global.progress, global.quiet);
    let most = eval.limit.unwrap_or(usize::MAX);
    let how = generation(&eval.writing, eval.tokens, &model, &tokenizer);
    let mut writer = ModelWriter { model: &model, tokenizer: &tokenizer, how };
    let score = match name.as_str() {
        "gsm8k" => {
            let mut problems = gsm8k::problems(&dir.join("gsm8k/test.jsonl"))?;
            problems.truncate(most);
            serde_json::json!({ "exact_match": gsm8k::exact_match(&problems, &mut writer, &mut console)? })
        }
        "humaneval" => {
            let [whole, packed] =
                ["jsonl", "jsonl.gz"].map(|end| dir.join(format!("humaneval/HumanEval.{end}")));
            let mut problems = humaneval::problems(if whole.is_file() { &whole } else { &packed })?;
            problems.truncate(most);
            let permission = permission.ok_or_else(|| Error::Internal("no permission".into()))?;
            let (ks, samples) = (&eval.k, eval.samples);
            let shares = code::pass_at(&problems, ks, samples, &mut writer, permission, &mut console)?;
            let of = |(k, share)| (format!("pass@{k}"), serde_json::Value::from(share));
            serde_json::Value::Object(ks.iter().zip(shares).map(of).collect())
        }
        "mt-bench" => {
            let mut questions = mt_bench::questions(&dir.join("mt_bench/question.jsonl"))?;
            questions.truncate(most);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let name =
                eval.path.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
            mt_bench::answer(&questions, &name, now.as_secs_f64(), &mut writer, &eval.answers, &mut console)?;
            match &eval.judge {
                None => serde_json::json!({ "answers": eval.answers }),
                Some(command) => {
                    let judge = Judge { command, seconds: eval.judge_seconds };
                    let (answers, path) =
                        (mt_bench::answers(&eval.answers)?, eval.answers.with_extension("ratings.jsonl"));
                    let ratings = judge::rate(&questions, &answers, judge, &path, &mut console)?;
                    serde_json::json!({ "answers": eval.answers, "ratings": path, "mean": ratings })
                }
            }
        }
        _ => {
            let task = glue::Task::of(task)?;
            let mut records = task.records(&dir.join("glue"), "dev")?;
            records.truncate(most);
            let examples = data::judged(&records, &task.fields(), &tokenizer, 128, model.config().labels)?;
            serde_json::json!(evaluate(&model, &examples, 32, i64::from(model.config().pad.unwrap_or(0)))?)
        }
    };
    if global.json { json(&score) } else { print(&format!("{score}\n")) }
}

/// A tokenizer of its own, or that of the model.
fn tokenizer(writing: &args::Writing, model: &Path) -> Result<Tokenizer> {
    match writing.tokenizer.as_deref() {
        Some("bytes") => Ok(Tokenizer::bytes()),
        Some(path) => Tokenizer::open(Path::new(path)),
        None => Tokenizer::open(model),
    }
}

/// How a model writes up to so many tokens.
fn generation(writing: &args::Writing, tokens: usize, model: &Model, tokenizer: &Tokenizer) -> Generation {
    let stop = model.config().end.iter().copied().chain(tokenizer.end()).collect();
    let &args::Writing { temperature, top_p, seed, .. } = writing;
    Generation { tokens, temperature, top_p, seed, stop }
}

fn merge(global: &Global, merge: &args::PeftMerge) -> Result<()> {
    if merge.to.join("config.json").exists() {
        return Err(Error::data(&merge.to, "there is a model already; it is never overwritten"));
    }
    let count = match &merge.adapter {
        Some(adapter) => {
            let mut model = open(&merge.path, Some(adapter), DType::F32)?;
            let count = crate::peft::merge_and_unload(&mut model)?;
            model.save(&merge.to)?;
            count
        }
        None => {
            let run_dir = RunDir::open(&merge.path)?;
            let Store { dir, .. } = store(global)?;
            peft::merge(&run_config(&run_dir)?, &run_dir, &dir, &merge.to)?
        }
    };
    match global.json {
        true => json(&serde_json::json!({ "merged": count, "model": merge.to })),
        false => print(&format!("{count} maps merged\n{}\n", merge.to.display())),
    }
}

fn show(global: &Global, path: &Path) -> Result<()> {
    if path.join("summary.json").is_file() {
        return print(&read_text(&path.join("summary.json"))?);
    }
    if path.join("adapter_config.json").is_file() {
        let file = crate::tensor::safetensors::File::open(&path.join("adapter_model.safetensors"))?;
        let tensors: Vec<_> = file.names().map(|name| Ok((name, file.meta(name)?))).collect::<Result<_>>()?;
        let numbers: usize = tensors.iter().map(|(_, meta)| meta.len()).sum();
        if global.json {
            let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
            return json(&serde_json::json!({ "numbers": numbers, "tensors": names }));
        }
        let lines =
            tensors.iter().map(|(name, meta)| format!("{:<5} {:?}  {name}\n", meta.dtype, meta.shape));
        return print(&format!(
            "{}\n{numbers} numbers in {} tensors\n",
            lines.collect::<String>(),
            tensors.len()
        ));
    }
    let config = models::Config::open(path)?;
    let (_, parameters) = config.parameters();
    let tensors = Weights::open(path)?.names().count();
    if global.json {
        return json(
            &serde_json::json!({ "config": config.raw, "parameters": parameters, "tensors": tensors }),
        );
    }
    print(&format!(
        "{:?}  {parameters} weights in {tensors} tensors\n{} blocks of {} wide, {} heads, {} of keys, vocabulary {}\n",
        config.family, config.layers, config.hidden, config.heads, config.kv_heads, config.vocab
    ))
}

fn generate(global: &Global, args: &args::PeftGenerate) -> Result<()> {
    let dtype = if args.bf16 { DType::Bf16 } else { DType::F32 };
    let mut model = open(&args.model, args.adapter.as_deref(), dtype)?;
    crate::peft::merge_and_unload(&mut model)?;
    let tokenizer = tokenizer(&args.writing, &args.model)?;
    let how = generation(&args.writing, args.tokens, &model, &tokenizer);
    let mut writer = ModelWriter { model: &model, tokenizer: &tokenizer, how };
    let text = writer.write("text", &args.prompt)?;
    if global.json { json(&serde_json::json!({ "text": text })) } else { print(&format!("{text}\n")) }
}

fn plan(global: &Global, args: &args::PeftPlan) -> Result<()> {
    let path = Path::new(&args.model);
    let config = if path.exists() { models::Config::open(path)? } else { plan::by_name(&args.model)? };
    let &args::PeftPlan { rank, block, factors, .. } = args;
    let choice = |what: &str, got: &str, all: &[&str]| {
        Error::value(format!("the {what}"), format!("`{got}`"), suggestion(got, all).unwrap_or_default())
    };
    let method = match args.method.as_str() {
        "full" => Method::Full,
        "full-mixed" => Method::FullMixed,
        "lora" | "lora-ga" => Method::Lora { rank },
        "dora" => Method::Dora { rank },
        "boft" => Method::Boft { block, factors },
        "urnn" => Method::Urnn,
        "hybrid" => Method::Hybrid { rank, block, factors },
        other => {
            let all = ["full", "full-mixed", "lora", "lora-ga", "dora", "boft", "urnn", "hybrid"];
            return Err(choice("method", other, &all));
        }
    };
    let targets = match args.targets.as_str() {
        "query-value" => Targets::QueryValue,
        "attention" => Targets::Attention,
        "feed-forward" => Targets::FeedForward,
        "all" => Targets::All,
        other => return Err(choice("targets", other, &["query-value", "attention", "feed-forward", "all"])),
    };
    let loss = match args.loss.as_str() {
        "f32" => Loss::F32,
        "same" => Loss::Same,
        "pieces" => Loss::Pieces,
        other => return Err(choice("loss", other, &["f32", "same", "pieces"])),
    };
    let precision = match args.precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        "int8" => Precision::Int8,
        "nf4" => Precision::Nf4,
        other => return Err(choice("precision", other, &["f32", "bf16", "int8", "nf4"])),
    };
    let request = Request {
        config,
        method,
        targets,
        precision,
        batch: args.batch,
        length: args.length,
        gpus: args.gpus,
        sharding: match args.zero {
            2 => Sharding::Gradients { bucket: args.bucket },
            _ => Sharding::Weights,
        },
        recompute: args.recompute,
        loss,
        flops: args.flops,
        bandwidth: args.bandwidth,
    };
    let plan = request.plan()?;
    if global.json { json(&plan) } else { print(&plan.to_string()) }
}
