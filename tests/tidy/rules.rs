//! The rules, each a function from texts to findings, each with a test that it can fail.

use crate::source::{Finding, Source, words};

/// What everything stands on; its members import no layer but `error`.
const GROUND: &[&str] = &["error", "units", "rng", "document", "files", "progress", "parallel", "lines"];

/// Which folders of `src/` may import which, besides [`GROUND`]. `Result` and `Error` at the crate's root count as
/// `error`.
///
/// The order is the order of the layers: nothing imports what stands below it in this table. To add an arrow, say in
/// ARCHITECTURE.md what it is for.
const LAYERS: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("peft", &["tensor"]),
    ("nn", &["tensor", "peft"]),
    ("snn", &["tensor", "nn"]),
    ("engine", &["tensor", "nn", "snn"]),
    ("learn", &["tensor", "nn", "snn", "engine"]),
    ("data", &[]),
    ("models", &["tensor", "peft", "nn", "data"]),
    ("report", &[]),
    ("experiment", &["tensor", "peft", "nn", "snn", "engine", "learn", "data", "models", "report"]),
    ("bench", &["tensor", "peft", "nn", "snn", "engine", "learn", "data", "models", "report", "experiment"]),
    (
        "cli",
        &[
            "tensor",
            "peft",
            "nn",
            "snn",
            "engine",
            "learn",
            "data",
            "models",
            "report",
            "experiment",
            "bench",
        ],
    ),
];

/// What a layer may import; `None` for one that is in neither table.
fn allowed(layer: &str) -> Option<Vec<&'static str>> {
    if GROUND.contains(&layer) {
        return Some(vec!["error"]);
    }
    let (_, above) = LAYERS.iter().find(|(name, _)| *name == layer)?;
    Some(GROUND.iter().chain(*above).copied().collect())
}

/// Where unsafe code may be: beginnings of paths.
const UNSAFE: &[&str] = &[
    "src/cli/memory.rs",
    "src/engine/clock/simd.rs",
    "src/engine/simd",
    "src/learn/ridge/simd",
    "src/learn/stdp/simd.rs",
    "src/snn/scan/simd.rs",
    "src/tensor/cpu/conv/kernel.rs",
    "src/tensor/cpu/gemm.rs",
    "src/tensor/cpu/rotate.rs",
    "src/tensor/cpu/wide.rs",
    "src/tensor/cuda",
    "src/tensor/mmap.rs",
    "tests/",
];

/// The folder or file of `src/` that a path belongs to.
pub fn layer(path: &str) -> Option<&str> {
    let path = path.strip_prefix("src/")?;
    Some(path.split_once('/').map_or(path.trim_end_matches(".rs"), |(folder, _)| folder))
}

/// Layers import downwards only.
pub fn imports(source: &Source) -> Vec<Finding> {
    let Some(from) = layer(&source.path).filter(|&layer| layer != "lib") else { return vec![] };
    let code = source.code_without_tests();
    if from == "main" {
        let strangers = paths_after(&code, "ransnn").into_iter().filter(|(_, to)| *to != "cli");
        return strangers
            .map(|(at, to)| source.finding(at, format!("main.rs uses `{to}`; only `cli` is allowed")))
            .collect();
    }
    let Some(allowed) = allowed(from) else {
        return vec![
            source.finding(0, format!("`{from}` is not in LAYERS of tests/tidy/rules.rs: give it a place")),
        ];
    };
    let mut found = vec![];
    for (at, to) in paths_after(&code, "crate") {
        let to = if matches!(to, "Result" | "Error") { "error" } else { to };
        if to != from && !allowed.contains(&to) {
            found.push(source.finding(
                at,
                format!("`{from}` may not import `{to}`; it may import: {}", allowed.join(", ")),
            ));
        }
    }
    for at in words(&code, "super").filter(|&at| !code[..at].trim_end().ends_with("super::")) {
        let ups = code[at..].split("::").take_while(|part| part.trim() == "super").count();
        if ups >= depth(&source.path) + inline_modules(&code[..at]) {
            found.push(
                source.finding(at, "`super` reaches the crate's root; write `crate::…`, so that layers show"),
            );
        }
    }
    found
}

/// How many modules a file is below the crate's root.
fn depth(path: &str) -> usize {
    path.split('/').count() - 1 - usize::from(path.ends_with("/mod.rs"))
}

/// How many `mod x {` are open at the end of `code`.
fn inline_modules(code: &str) -> usize {
    let mut open = vec![];
    for (i, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => {
                let item = code[..i].rsplit([';', '{', '}']).next().unwrap_or_default();
                open.push(words(item, "mod").next().is_some());
            }
            b'}' => _ = open.pop(),
            _ => {}
        }
    }
    open.into_iter().filter(|&module| module).count()
}

/// The names that follow `root::`, also in `root::{a::…, b}`, with their positions.
fn paths_after<'a>(code: &'a str, root: &'a str) -> Vec<(usize, &'a str)> {
    let ident = |at: usize| {
        let rest = &code[at..];
        &rest[..rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())]
    };
    let skip = |at: usize| at + (code[at..].len() - code[at..].trim_start().len());
    let mut found = vec![];
    for at in words(code, root) {
        let after = skip(at + root.len());
        if !code[after..].starts_with("::") {
            continue;
        }
        let start = skip(after + 2);
        if !code[start..].starts_with('{') {
            found.push((start, ident(start)));
            continue;
        }
        let (mut depth, mut begins) = (0, false);
        for (i, byte) in code.bytes().enumerate().skip(start) {
            match byte {
                b'{' => (depth, begins) = (depth + 1, depth == 0),
                b'}' if depth == 1 => break,
                b'}' => depth -= 1,
                b',' if depth == 1 => begins = true,
                _ if begins && !byte.is_ascii_whitespace() => {
                    found.push((i, ident(i)));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    // An exported macro is at the root wherever it is written.
    found.retain(|&(at, name)| name != "self" && !code[at + name.len()..].starts_with('!'));
    found
}

/// Every file says what it is.
pub fn module_docs(source: &Source) -> Vec<Finding> {
    if source.text.trim_start().starts_with("//!") {
        return vec![];
    }
    vec![source.finding(0, "begin the file with `//!` and a sentence that says what it is")]
}

/// Every use of `unsafe` says why it is sound.
pub fn safety(source: &Source) -> Vec<Finding> {
    let (code, comments): (Vec<_>, Vec<_>) =
        (source.code.lines().collect(), source.comments.lines().collect());
    let is_type = |at: usize| {
        let rest = source.code[at + "unsafe".len()..].trim_start();
        let rest = rest
            .strip_prefix("extern")
            .map_or(rest, |rest| rest.trim_start().trim_start_matches('"').trim_start());
        rest.strip_prefix("fn").is_some_and(|rest| rest.trim_start().starts_with('('))
    };
    let explains = |line: usize| comments[line].contains("SAFETY:") || comments[line].contains("# Safety");
    let explained = |at: usize| {
        let line = source.line(at);
        // Up through comments and attributes, and through the beginning of a statement that spans lines.
        let continues = |line: &&usize| {
            let code = code[**line].trim_end();
            code.trim().is_empty() && !comments[**line].trim().is_empty()
                || code.trim_start().starts_with("#[")
                || code.ends_with(['(', '=', '|'])
        };
        let above: Vec<usize> = (0..line).rev().collect();
        explains(line) || above.iter().take_while(continues).any(|&line| explains(line))
    };
    words(&source.code, "unsafe")
        .filter(|&at| !is_type(at) && !explained(at))
        .map(|at| source.finding(at, "say why this is sound in a `// SAFETY:` comment directly above it"))
        .collect()
}

/// Unsafe code is only where it is measured or foreign.
pub fn unsafe_places(source: &Source) -> Vec<Finding> {
    let uses = source.code.match_indices("allow(unsafe_code)");
    uses.filter_map(|(at, _)| {
        if !UNSAFE.iter().any(|place| source.path.starts_with(place)) {
            let what = format!(
                "unsafe code is allowed in {} only; find a safe way, or argue for a place",
                UNSAFE.join(", ")
            );
            return Some(source.finding(at, what));
        }
        let line = source.line(at);
        let reason = source
            .comments
            .lines()
            .skip(line.saturating_sub(1))
            .take(2)
            .any(|line| line.trim().starts_with("// ") && line.trim().len() > "// why".len());
        let in_docs = source.comments.lines().any(|line| line.starts_with("//!") && line.contains("nsafe"));
        let what =
            "say in a comment on this line, or in the file's documentation, what the unsafe code is for";
        (!reason && !in_docs).then(|| source.finding(at, what))
    })
    .collect()
}

/// One folder knows the GPU's driver.
pub fn cudarc(source: &Source) -> Vec<Finding> {
    let free = ["src/tensor/cuda/", "src/tensor/cuda.rs", "tests/"]
        .iter()
        .any(|place| source.path.starts_with(place));
    let uses = words(&source.code, "cudarc").filter(|_| !free);
    uses.map(|at| source.finding(at, "only src/tensor/cuda names `cudarc`; go through `tensor::cuda`"))
        .collect()
}

/// A library does not print.
pub fn prints(source: &Source) -> Vec<Finding> {
    if layer(&source.path).is_none_or(|layer| layer == "cli") {
        return vec![];
    }
    let code = source.code_without_tests();
    let written = ["println!", "print!", "eprintln!", "eprint!", "dbg!"].into_iter();
    let found = written.flat_map(|word| words(&code, word).collect::<Vec<_>>());
    let streams =
        ["io::stdout", "io::stderr"].into_iter().flat_map(|word| words(&code, word).collect::<Vec<_>>());
    found
        .chain(streams)
        .map(|at| {
            source.finding(at, "only `cli` prints; return the text, or report through `progress::Progress`")
        })
        .collect()
}

/// Results depend on what is asked for, not on the surroundings.
pub fn surroundings(source: &Source) -> Vec<Finding> {
    let free = ["experiment", "bench", "cli", "main", "lib"];
    let Some(layer) = layer(&source.path).filter(|layer| !free.contains(layer)) else { return vec![] };
    let code = source.code_without_tests();
    let mut found = vec![];
    for word in ["Instant::now", "SystemTime", "env::var", "env::var_os", "env::args", "env::current_dir"] {
        let what =
            format!("`{layer}` may not read the clock or the environment (`{word}`); take it as an argument");
        found.extend(words(&code, word).map(|at| source.finding(at, what.clone())));
    }
    if source.path != "src/data/fetch.rs" {
        for word in ["ureq", "std::net", "TcpStream"] {
            let what = "only src/data/fetch.rs uses the network";
            found.extend(words(&code, word).map(|at| source.finding(at, what)));
        }
    }
    found
}

/// Nothing is left undone behind a mark.
pub fn unfinished(source: &Source) -> Vec<Finding> {
    let marks = [
        ("todo!", "finish it, or return an error"),
        ("unimplemented!", "finish it, or return an error"),
        ("#[ignore", "run the test, or assert today's wrong behaviour and say why it is wrong"),
    ];
    let at = |mark| source.code.match_indices(mark).map(|(at, _)| at).collect::<Vec<_>>();
    marks
        .into_iter()
        .flat_map(|(mark, what)| at(mark).into_iter().map(move |at| source.finding(at, what)))
        .collect()
}

/// No path of somebody's machine, in any text.
pub fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    // Put together here, so that this file is clean.
    let roots = ["work", "root", "tmp", "home"].map(|folder| format!("/{folder}/"));
    let mut found = vec![];
    for (line, text) in text.lines().enumerate() {
        for root in &roots {
            // A folder of the same name inside of another path is fine.
            let inside =
                |at: usize| text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}*)".contains(c));
            if text.match_indices(root.as_str()).any(|(at, _)| !inside(at)) {
                let what =
                    format!("`{root}` is on one machine only; use a relative path or a temporary folder");
                found.push(Finding { path: path.into(), line: line + 1, what });
            }
        }
    }
    found
}

/// Every kernel says what it computes and how it is launched.
pub fn kernel_header(path: &str, text: &str) -> Vec<Finding> {
    let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//")).collect();
    let what = if header.is_empty() {
        "begin the file with a `//` comment that says what it computes"
    } else if path.ends_with(".cu") && !header.iter().any(|line| line.contains("Geometry:")) {
        "say in the header, after `Geometry:`, how the kernel is launched"
    } else {
        return vec![];
    };
    vec![Finding { path: path.into(), line: 1, what: what.into() }]
}

/// Examples are read in order, each in one sitting.
pub fn examples(files: &[(&str, &str)]) -> Vec<Finding> {
    let mut found = vec![];
    let mut numbers = vec![];
    for &(path, text) in files {
        let name = path.trim_start_matches("examples/");
        let finding = |what: String| Finding { path: path.into(), line: 1, what };
        match name.split_once('_') {
            Some((number, _)) if number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                if numbers.contains(&number) {
                    found.push(finding(format!("number {number} is taken; examples are read in order")));
                }
                numbers.push(number);
            }
            _ => found.push(finding("name it NN_what_it_shows.rs; examples are read in order".into())),
        }
        let lines = text.lines().count();
        if lines > 60 {
            found.push(finding(format!("{lines} lines; show one thing in at most 60")));
        }
    }
    found
}

/// A clone stays small.
pub fn fixtures(files: &[(String, u64)]) -> Vec<Finding> {
    const LIMIT: u64 = 6 << 20;
    let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let Some((largest, bytes)) = files.iter().max_by_key(|(_, bytes)| bytes).filter(|_| total > LIMIT) else {
        return vec![];
    };
    let what =
        format!("the fixtures have {total} bytes, more than {LIMIT}; this one, with {bytes}, is the largest");
    vec![Finding { path: largest.clone(), line: 1, what }]
}

/// The changelog has a place for what is not released.
pub fn changelog(text: &str) -> Vec<Finding> {
    let first = text.lines().position(|line| line.starts_with("## "));
    if first.and_then(|line| text.lines().nth(line)) == Some("## Unreleased") {
        return vec![];
    }
    let what = "the first second-level heading must be `## Unreleased`".into();
    vec![Finding { path: "CHANGELOG.md".into(), line: first.unwrap_or(0) + 1, what }]
}

/// ARCHITECTURE.md speaks of files that exist, and of every folder of `src/`.
pub fn map(text: &str, files: &[String]) -> Vec<Finding> {
    let finding = |line: usize, what: String| Finding { path: "ARCHITECTURE.md".into(), line, what };
    let exists = |path: &str| {
        files.iter().any(|file| file == path || file.starts_with(&format!("{}/", path.trim_end_matches('/'))))
    };
    let mut found = vec![];
    for (number, line) in text.lines().enumerate() {
        // What stands between backticks: every second piece.
        for path in line.split('`').skip(1).step_by(2) {
            let known =
                ["src/", "kernels/", "tests/", "docs/", ".ci/", "experiments/", "examples/", "benches/"];
            let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
            if plain && known.iter().any(|folder| path.starts_with(folder)) && !exists(path) {
                found
                    .push(finding(number + 1, format!("`{path}` does not exist; say what is there instead")));
            }
        }
    }
    let mut layers: Vec<&str> =
        files.iter().filter_map(|file| layer(file)).filter(|l| !["lib", "main"].contains(l)).collect();
    layers.dedup();
    for layer in layers {
        if !text.contains(&format!("`src/{layer}")) {
            found.push(finding(1, format!("say what `src/{layer}` is for")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the findings of a rule in a made-up text.
    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn imports_can_fail() {
        let text = "use crate::error::Result;\nuse crate::{\n    error::Error,\n    engine::{Input, cli},\n    snn,\n};\n\
                    fn f() -> crate::data::Split {}\n// crate::cli\n#[cfg(test)]\nmod tests { use crate::cli; }\n";
        assert_eq!(lines(imports, "src/snn/network.rs", text), [4, 7]);
        assert_eq!(lines(imports, "src/learn/ridge.rs", text), [7]);
        assert_eq!(lines(imports, "src/cli/verbs.rs", text), [0; 0]);
        assert_eq!(lines(imports, "src/tensor/op.rs", "use crate::Result;\nuse crate::snn;\n"), [2]);
        assert_eq!(lines(imports, "src/astrology/mod.rs", ""), [1]);
        assert_eq!(
            lines(
                imports,
                "src/snn/neurons/lif.rs",
                "use super::super::network;\nuse super::super::super::cli;\n"
            ),
            [2]
        );
        assert_eq!(lines(imports, "src/snn/mod.rs", "mod a { use super::b; }\nuse super::cli;\n"), [2]);
        assert_eq!(
            lines(imports, "src/main.rs", "fn main() { ransnn::cli::main(); ransnn::engine::x() }\n"),
            [1]
        );
    }

    #[test]
    fn lower_layers_never_import_higher_ones() {
        for (i, (name, allowed)) in LAYERS.iter().enumerate() {
            let above: Vec<&str> = LAYERS[..i].iter().map(|(name, _)| *name).collect();
            assert!(
                allowed.iter().all(|import| above.contains(import)),
                "{name} imports what stands below it"
            );
        }
    }

    #[test]
    fn module_docs_can_fail() {
        assert_eq!(lines(module_docs, "src/a.rs", "\n//! A.\n"), [0; 0]);
        assert_eq!(lines(module_docs, "src/a.rs", "// A.\n"), [1]);
    }

    #[test]
    fn safety_can_fail() {
        let good = "// SAFETY: it is.\n#[inline]\nlet a =\n    unsafe { b() };\nlet c = unsafe { d() }; // SAFETY: too\n\
                    type F = unsafe fn(u8);\ntype E = unsafe extern \"C\" fn();\n/// # Safety\n/// Call it twice.\nunsafe fn g() {}\n\"unsafe {\"\n";
        assert_eq!(lines(safety, "src/a.rs", good), [0; 0]);
        let bad = "// SAFETY: of another line.\nlet x = 1;\nunsafe { a() };\n\nunsafe impl Send for B {}\n// unsafe\nunsafe fn c() {}\n";
        assert_eq!(lines(safety, "src/a.rs", bad), [3, 5, 7]);
    }

    #[test]
    fn unsafe_places_can_fail() {
        let text = "//! A.\n#![allow(unsafe_code)] // the driver's C interface\n";
        assert_eq!(lines(unsafe_places, "src/snn/network.rs", text), [2]);
        assert_eq!(lines(unsafe_places, "src/tensor/cuda/driver.rs", text), [0; 0]);
        assert_eq!(
            lines(unsafe_places, "src/tensor/cuda/driver.rs", "//! A.\n\n#![allow(unsafe_code)]\n"),
            [3]
        );
    }

    #[test]
    fn cudarc_can_fail() {
        let text = "//! cudarc\nuse cudarc::driver;\n";
        assert_eq!(lines(cudarc, "src/engine/cuda.rs", text), [2]);
        assert_eq!(lines(cudarc, "src/tensor/cuda/probe.rs", text), [0; 0]);
    }

    #[test]
    fn prints_can_fail() {
        let text = "/// println!(\"doc\");\nfn a() { println!(\"b\"); my_print!() }\nfn c() { std::io::stderr() }\n\
                    #[cfg(test)]\nmod tests { fn d() { eprintln!() } }\n";
        assert_eq!(lines(prints, "src/experiment/run.rs", text), [2, 3]);
        assert_eq!(lines(prints, "src/cli/mod.rs", text), [0; 0]);
        assert_eq!(lines(prints, "tests/cli.rs", text), [0; 0]);
    }

    #[test]
    fn surroundings_can_fail() {
        let text = "let a = std::time::Instant::now();\nlet b = std::env::var(\"C\");\nuse ureq::Agent;\n";
        assert_eq!(lines(surroundings, "src/learn/adam.rs", text), [1, 2, 3]);
        assert_eq!(lines(surroundings, "src/data/fetch.rs", text), [1, 2]);
        assert_eq!(lines(surroundings, "src/cli/verbs.rs", text), [0; 0]);
    }

    #[test]
    fn unfinished_can_fail() {
        let text =
            ["fn a() { todo", "!() }\n#[ign", "ore]\nfn b() { unimpl", "emented!() }\n// todo", "!()\n"]
                .concat();
        let mut found = lines(unfinished, "src/a.rs", &text);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn machine_paths_can_fail() {
        let bad = |root: &str| machine_paths("a.md", &format!("fine\nsee /{root}/x\n")).len();
        assert_eq!(["work", "root", "tmp", "var"].map(bad), [1, 1, 1, 0]);
        assert_eq!(machine_paths("a.md", &format!("src/{0}/x, ~/{0}/\n", "work")).len(), 0);
    }

    #[test]
    fn kernel_header_can_fail() {
        let good = "// Adds.\n// Geometry: one thread per element.\n__global__ void add() {}\n";
        assert!(kernel_header("kernels/a.cu", good).is_empty());
        assert_eq!(kernel_header("kernels/a.cu", "// Adds.\nvoid a() {} // Geometry:\n").len(), 1);
        assert!(kernel_header("kernels/a.cuh", "// Adds.\n").is_empty());
        assert_eq!(kernel_header("kernels/a.cuh", "#pragma once\n").len(), 1);
    }

    #[test]
    fn examples_can_fail() {
        let long = "x\n".repeat(61);
        assert!(examples(&[("examples/01_a.rs", "x\n"), ("examples/02_b.rs", "x\n")]).is_empty());
        let bad = [
            ("examples/01_a.rs", "x\n"),
            ("examples/01_b.rs", "x\n"),
            ("examples/c.rs", "x\n"),
            ("examples/04_d.rs", &long),
        ];
        assert_eq!(examples(&bad).len(), 3);
    }

    #[test]
    fn fixtures_can_fail() {
        let file = |name: &str, bytes| (format!("tests/fixtures/{name}"), bytes);
        assert!(fixtures(&[file("a", 3 << 20), file("b", 3 << 20)]).is_empty());
        assert_eq!(fixtures(&[file("a", 3 << 20), file("b", 4 << 20)])[0].path, "tests/fixtures/b");
    }

    #[test]
    fn changelog_can_fail() {
        assert!(changelog("# Changelog\n\n## Unreleased\n\n## 0.1.0\n").is_empty());
        assert_eq!(changelog("# Changelog\n\n## 0.1.0\n\n## Unreleased\n")[0].line, 3);
        assert_eq!(changelog("").len(), 1);
    }

    #[test]
    fn map_can_fail() {
        let files = ["src/lib.rs", "src/snn/mod.rs", "src/rng.rs"].map(String::from);
        assert!(map("`src/snn/` and `src/rng.rs`\n", &files).is_empty());
        let found = map("`src/rng.rs`\n`src/snow/`, `src/*`\n", &files);
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 1], "{found:?}");
    }
}
