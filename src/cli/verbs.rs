//! What each verb does.

use super::args::{self, Cli, Command, Global};
use super::{builtin, print, progress, render, simulate};
use crate::data::Store;
use crate::error::{Error, Result};
use crate::experiment::{
    annotate, check, compare, device::device, diagnose::Source, execute, peft, plan, run_dir::RunDir,
    simulate::describes, summary::Summary, sweep,
};
use crate::files::{read_text, write_atomic};
use std::path::{Path, PathBuf};

pub fn dispatch(cli: Cli) -> Result<()> {
    let global = &cli.global;
    match cli.command {
        Command::Run(run) => self::run(global, run),
        Command::Init(init) => self::init(global, &init),
        Command::Check(check) => self::check(&check),
        Command::Plan(one) => plan(global, &one),
        Command::Config(config) => self::config(&config),
        Command::Show(show) => self::show(global, &show),
        Command::Report(report) => self::report(global, &report),
        Command::Compare(compare) => self::compare(global, &compare),
        Command::Data(data) => self::data(global, data),
        Command::Peft(peft) => super::peft::dispatch(global, peft),
        Command::Bench(bench) => self::bench(global, &bench),
        Command::Devices => devices(global),
        Command::Completions(completions) => {
            let mut text = vec![];
            clap_complete::generate(completions.shell, &mut super::command(), "ransnn", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
        Command::Man(man) => {
            std::fs::create_dir_all(&man.dir).map_err(Error::io("create", &man.dir))?;
            clap_mangen::generate_to(super::command(), &man.dir).map_err(Error::io("write", &man.dir))
        }
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Internal(e.to_string()))?;
    print(&(text + "\n"))
}

/// `--data`, `RANSNN_DATA`, or the platform's cache folder.
pub(super) fn store(global: &Global) -> Result<Store> {
    let dir = match &global.data {
        Some(dir) => dir.clone(),
        None => cache_dir()?.join("ransnn").join("data"),
    };
    Ok(Store { dir, offline: global.offline })
}

/// Where compiled kernels of a GPU are kept, if there is a place.
pub(super) fn kernels() -> Option<PathBuf> {
    Some(cache_dir().ok()?.join("ransnn").join("kernels"))
}

fn cache_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let dir = match std::env::consts::OS {
        "macos" => home().map(|home| home.join("Library/Caches")),
        "windows" => set("LOCALAPPDATA"),
        _ => set("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache"))),
    };
    dir.ok_or_else(|| {
        Error::value("the data folder", "unknown", "given with --data, since there is no home folder")
    })
}

/// More threads than any machine has cores only take memory.
const MOST_THREADS: usize = 1024;

pub(super) fn threads(global: &Global, config: usize) -> Result<usize> {
    match global.threads.unwrap_or(config) {
        0 => Ok(std::thread::available_parallelism().map_or(1, Into::into)),
        n if n > MOST_THREADS => {
            let expected = format!("0 (all cores) to {MOST_THREADS}");
            Err(Error::value("the number of threads", n, expected))
        }
        n => Ok(n),
    }
}

fn run(global: &Global, run: args::Run) -> Result<()> {
    progress::handle_interrupt();
    let mut console = progress::Console::new(global.progress, global.quiet);
    let (file, text) = (run.file.display().to_string(), read_text(&run.file)?);
    if describes(&text) {
        return simulate::run(global, &run, &file, &text);
    }
    if peft::describes(&text) {
        return Err(is_fine_tuning(&run.file));
    }
    let (set, swept) = settings(&run)?;
    let base = check::load(&Source::new(&file, &text, &set)?)?;
    let points = sweep::points(&base, swept);
    if points.len() > 1 && run.resume.is_some() {
        return Err(Error::value("--resume", "given with a sweep", "given for a single run"));
    }
    let store = store(global)?;
    let kernels = kernels();
    let threads = threads(global, base.run.threads)?;
    // All of them first: a mistake in the last point of a sweep must not show after hours.
    let resolved: Vec<_> =
        points.iter().map(|point| sweep::at(&file, &text, &set, point)).collect::<Result<_>>()?;
    let mut summaries = vec![];
    for (point, (config, overrides)) in points.iter().zip(resolved) {
        let run_dir = match &run.resume {
            Some(path) => {
                let run_dir = RunDir::open(path)?;
                run_dir.must_match(&config)?;
                run_dir
            }
            None => RunDir::create(&run.out, &config, &text, &overrides)?,
        };
        console.log_to(&run_dir.file("log.txt"))?;
        if points.len() > 1 {
            console.note(&point.label());
        }
        let kernels = kernels.as_deref();
        let mut context =
            execute::Context { store: &store, run_dir: &run_dir, threads, kernels, progress: &mut console };
        let summary = execute::run(&config, &mut context)?;
        if !global.json {
            print(&render::summary(&summary))?;
        }
        summaries.push(summary);
    }
    if points.len() > 1 {
        return self::sweep_result(global, &run.out, &base.name, &points, &summaries);
    }
    let summary = &summaries[0];
    if global.json {
        json(summary)?;
    }
    expectation(run.check, base.eval.expect_accuracy, summary)
}

/// What the command line sets, and what it sweeps.
pub(super) fn settings(run: &args::Run) -> Result<(Vec<String>, Vec<sweep::Axis>)> {
    let (mut set, swept) = sweep::split(&run.set)?;
    set.extend(run.seed.map(|seed| format!("seed={seed}")));
    set.extend(run.device.as_ref().map(|device| format!("run.device=\"{device}\"")));
    Ok((set, swept))
}

pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(e.to_string()))?;
    write_atomic(path, &text)
}

fn expectation(check: bool, expected: Option<f64>, summary: &Summary) -> Result<()> {
    let Some(expected) = expected.filter(|_| check) else { return Ok(()) };
    let got = summary.test.accuracy.mean();
    if let Some(reason) = &summary.fallback {
        return Err(Error::Missed(format!("nothing to check, the data is not what was asked for: {reason}")));
    }
    if got < expected {
        return Err(Error::Missed(format!("accuracy {got:.4} is below the expected {expected:.4}")));
    }
    Ok(())
}

fn sweep_result(
    global: &Global,
    runs: &Path,
    name: &str,
    points: &[sweep::Point],
    all: &[Summary],
) -> Result<()> {
    let rows: Vec<_> = points.iter().zip(all).map(|(point, summary)| point.row(summary)).collect();
    let folder = runs.join(name);
    write_json(&folder.join("sweep.json"), &rows)?;
    let plot = execute::sweep_plot(points, all)?;
    write_atomic(&folder.join("sweep.svg"), plot.as_bytes())?;
    if global.json {
        return json(&rows);
    }
    let mut table = String::from("\n");
    for (point, summary) in points.iter().zip(all) {
        table += &format!("  {:>6.2} %   {}\n", 100.0 * summary.test.accuracy.mean(), point.label());
    }
    table += &format!("\n{}\n", folder.join("sweep.svg").display());
    print(&table)
}

fn compare(global: &Global, args: &args::Compare) -> Result<()> {
    let runs = compare::read(&args.runs)?;
    std::fs::create_dir_all(&args.to).map_err(Error::io("create", &args.to))?;
    let mut written = String::new();
    for (name, svg) in runs.plots()? {
        let path = args.to.join(name);
        write_atomic(&path, svg.as_bytes())?;
        written += &format!("\n{}", path.display());
    }
    if global.json { json(&runs) } else { print(&format!("{}{written}\n", runs.table())) }
}

fn init(global: &Global, init: &args::Init) -> Result<()> {
    let Some(name) = &init.name else {
        if global.json {
            let list: Vec<_> = builtin::EXPERIMENTS
                .iter()
                .map(|(name, _, text)| serde_json::json!({"name": name, "about": builtin::about(text)}))
                .collect();
            return json(&list);
        }
        let list = builtin::EXPERIMENTS
            .iter()
            .map(|(name, _, text)| format!("{name:<20} {}\n", builtin::about(text)));
        return print(&list.collect::<String>());
    };
    let known: Vec<&str> = builtin::EXPERIMENTS.iter().map(|(name, ..)| *name).collect();
    let Some((.., text)) = builtin::EXPERIMENTS.iter().find(|(known, ..)| known == name) else {
        let help = crate::experiment::diagnose::suggestion(name, &known).unwrap_or_default();
        let expected = format!("one that `ransnn init` lists; {help}");
        return Err(Error::value("the experiment", format!("`{name}`"), expected));
    };
    // Not the name of the file in the repository: `mnist` and `paper/mnist` may go to the same folder.
    let target = init.to.join(format!("{}.toml", name.replace('/', "-")));
    let (mut text, mut files) = (text.to_string(), vec![]);
    if let Some((path, model)) = builtin::MODELS.iter().find(|(path, _)| text.contains(path)) {
        let beside = target.with_extension("json");
        let named = toml::Value::from(beside.to_string_lossy().as_ref()).to_string();
        text = text.replace(&format!("\"{path}\""), &named);
        files.push((beside, model.to_string()));
    }
    files.push((target.clone(), text));
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists()) {
        let what =
            "it is there already, and never overwritten; remove it, or choose another folder with --to";
        return Err(Error::data(there, what));
    }
    std::fs::create_dir_all(&init.to).map_err(Error::io("create", &init.to))?;
    files.iter().try_for_each(|(path, text)| write_atomic(path, text.as_bytes()))?;
    print(&format!("{}\n", target.display()))
}

fn check(check: &args::Check) -> Result<()> {
    let mut first = None;
    for file in &check.files {
        match load(file, &[]) {
            Ok(_) => print(&format!("{}: good\n", file.display()))?,
            // All files are looked at; the last error is left to `main`, which prints it.
            Err(error) => {
                if let Some(earlier) = first.replace(error) {
                    render::error(&earlier, super::args::Color::Auto);
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// What an experiment file holds.
enum Loaded {
    Training(Box<crate::experiment::config::Config>),
    Simulation(Box<crate::experiment::simulate::Config>),
    FineTuning,
}

/// What only `ransnn peft` does.
fn is_fine_tuning(file: &Path) -> Error {
    Error::data(file, "it describes fine-tuning, by its table `[adapt]`; `ransnn peft train` runs it")
}

fn load(file: &Path, set: &[String]) -> Result<Loaded> {
    let (name, text) = (file.display().to_string(), read_text(file)?);
    if describes(&text) {
        return Ok(Loaded::Simulation(Box::new(simulate::load(&name, &text, set)?)));
    }
    let source = Source::new(&name, &text, set)?;
    if peft::describes(&text) {
        return peft::config::Config::load(&source).map(|_| Loaded::FineTuning);
    }
    Ok(Loaded::Training(Box::new(check::load(&source)?)))
}

fn plan(global: &Global, one: &args::OneFile) -> Result<()> {
    match load(&one.file, &one.set)? {
        Loaded::Simulation(config) => simulate::plan(global, &config),
        Loaded::FineTuning => Err(is_fine_tuning(&one.file)),
        Loaded::Training(config) => {
            let plan = plan::of(&config)?;
            if global.json { json(&plan) } else { print(&plan.to_string()) }
        }
    }
}

fn config(config: &args::Config) -> Result<()> {
    match &config.file {
        Some(file) => print(&match load(file, &config.set)? {
            Loaded::Training(config) => annotate::annotated(&config),
            Loaded::Simulation(config) => annotate::annotated(&config),
            Loaded::FineTuning => return Err(is_fine_tuning(file)),
        }),
        None => print(&annotate::reference()),
    }
}

fn show(global: &Global, show: &args::Show) -> Result<()> {
    let run = RunDir::open(&show.path)?;
    let path = run.file("summary.json");
    let simulation = || -> Result<_> {
        let value = serde_json::from_str(&read_text(&path)?).unwrap_or_default();
        Ok(Some(value).filter(simulate::is_summary))
    };
    if show.csv {
        return match simulation() {
            Ok(Some(value)) => simulate::show(&run, true, value),
            _ => print(&execute::metrics_csv(&run)?),
        };
    }
    let text = read_text(&path)?;
    if global.json {
        return print(&text);
    }
    if let Some(value) = simulation()? {
        return simulate::show(&run, false, value);
    }
    let summary: Summary = serde_json::from_str(&text).map_err(|e| Error::data(path, e.to_string()))?;
    print(&format!("{}  on {}\n\n{}", summary.name, summary.dataset, render::summary(&summary)))
}

fn report(global: &Global, report: &args::Report) -> Result<()> {
    let run = RunDir::open(&report.path)?;
    let path = execute::write_report(&run)?;
    if global.json {
        json(&serde_json::json!({ "report": path }))
    } else {
        print(&format!("{}\n", path.display()))
    }
}

fn data(global: &Global, data: args::Data) -> Result<()> {
    progress::handle_interrupt();
    let store = store(global)?;
    let mut console = progress::Console::new(global.progress, global.quiet);
    let files = match data {
        args::Data::List => return data_list(global, &store),
        args::Data::Fetch { name } => store.fetch(&name, &mut console)?,
        args::Data::Verify { name } => store.verify(&name)?,
        args::Data::Add { name, from } => store.add(&name, &from)?,
    };
    if global.json {
        return json(&files);
    }
    if files.is_empty() {
        return print("built in: it is drawn when it is used, there are no files\n");
    }
    let lines =
        files.iter().map(|file| format!("{:<32} {:>12} bytes  {}\n", file.name, file.bytes, file.checked));
    print(&lines.collect::<String>())
}

fn data_list(global: &Global, store: &Store) -> Result<()> {
    let entries = store.list();
    if global.json {
        return json(&entries);
    }
    let here = |present| if present { "here" } else { "-" };
    let lines = entries
        .iter()
        .map(|e| format!("{:<18} {:<5} {:>3} classes  {}\n", e.name, here(e.present), e.classes, e.title));
    print(&lines.collect::<String>())
}

fn bench(global: &Global, bench: &args::Bench) -> Result<()> {
    let known: Vec<&str> = crate::bench::CASES.iter().map(|case| case.name).collect();
    if bench.cases.is_empty() {
        if global.json {
            return json(&crate::bench::CASES);
        }
        let list = crate::bench::CASES.iter().map(|case| format!("{:<26} {}\n", case.name, case.about));
        return print(&list.collect::<String>());
    }
    let find = |name: &String| {
        crate::bench::CASES.iter().find(|case| case.name == name).ok_or_else(|| {
            let help = crate::experiment::diagnose::suggestion(name, &known).unwrap_or_default();
            Error::value("the case", name, format!("one that is listed by `ransnn bench`; {help}"))
        })
    };
    let cases = bench.cases.iter().map(find).collect::<Result<Vec<_>>>()?;
    let mut outcomes = vec![];
    for case in cases {
        let work = format!("the case {}", case.name);
        let device = device(&bench.device, &work, case.runs_on_gpu(), kernels().as_deref())?;
        let outcome = crate::bench::run(case, threads(global, 0)?, bench.repeats, &device)?;
        if !global.json {
            print(&format!("{outcome}\n"))?;
        }
        outcomes.push(outcome);
    }
    match outcomes.as_slice() {
        _ if !global.json => Ok(()),
        [one] => json(one),
        several => json(&several),
    }
}

fn devices(global: &Global) -> Result<()> {
    let found = crate::bench::devices();
    if global.json { json(&found) } else { print(&found.to_string()) }
}
