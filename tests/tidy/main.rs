//! Rules that a compiler does not know: the invariants of ARCHITECTURE.md, on the source text.

mod rules;
mod source;

use source::{Finding, Source};
use std::fs;
use std::path::Path;

/// Every file of the repository, relative to it, sorted; without build outputs and what git ignores.
fn files() -> Vec<String> {
    fn walk(root: &Path, folder: &str, files: &mut Vec<String>) {
        for entry in fs::read_dir(root.join(folder)).expect("a folder of the repository") {
            let entry = entry.expect("a file of the repository");
            let name = entry.file_name().into_string().expect("file names are UTF-8");
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let ignored = matches!(path.as_str(), ".git" | "target" | "runs" | "shared")
                || path.starts_with("datasets/") && path != "datasets/README.md";
            if ignored {
                continue;
            }
            if entry.file_type().expect("a file type").is_dir() {
                walk(root, &path, files);
            } else {
                files.push(path);
            }
        }
    }
    let mut files = vec![];
    walk(root(), "", &mut files);
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The texts below a folder with an ending.
fn texts(folder: &str, ending: &str) -> Vec<(String, String)> {
    let chosen = files().into_iter().filter(|path| path.starts_with(folder) && path.ends_with(ending));
    chosen
        .map(|path| (fs::read_to_string(root().join(&path)).expect("is text"), path))
        .map(|(text, path)| (path, text))
        .collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let found = texts(folder, ".rs");
    found.iter().map(|(path, text)| Source::new(path, text)).collect()
}

/// Sources of the library without files that are there only in tests.
fn library() -> Vec<Source> {
    let all = sources("src/");
    let tests: Vec<String> = all
        .iter()
        .flat_map(|source| {
            let (folder, name) = source.path.rsplit_once('/').expect("below src");
            let folder = if name == "mod.rs" || name == "lib.rs" {
                folder
            } else {
                source.path.trim_end_matches(".rs")
            };
            source.test_modules().into_iter().map(move |module| format!("{folder}/{module}"))
        })
        .collect();
    let only_tests =
        |path: &str| tests.iter().any(|t| path == format!("{t}.rs") || path.starts_with(&format!("{t}/")));
    all.into_iter().filter(|source| !only_tests(&source.path)).collect()
}

fn all_sources() -> Vec<Source> {
    ["src/", "tests/", "examples/", "benches/"].into_iter().flat_map(sources).collect()
}

/// Checks that there was something to look at, and that nothing was found.
fn check(looked_at: usize, found: Vec<Finding>) {
    assert!(looked_at > 0, "nothing to look at: the rule would pass on anything");
    let list: Vec<String> = found.iter().map(|finding| format!("  {finding}")).collect();
    assert!(list.is_empty(), "{} to put right:\n{}", list.len(), list.join("\n"));
}

fn check_sources(sources: &[Source], rule: fn(&Source) -> Vec<Finding>) {
    check(sources.len(), sources.iter().flat_map(rule).collect());
}

#[test]
fn layers_import_downwards() {
    check_sources(&library(), rules::imports);
}

#[test]
fn files_say_what_they_are() {
    check_sources(&all_sources(), rules::module_docs);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    check_sources(&all_sources(), rules::safety);
}

#[test]
fn unsafe_code_is_in_its_places() {
    check_sources(&all_sources(), rules::unsafe_places);
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("is there");
    let cargo = fs::read_to_string(root().join("Cargo.toml")).expect("is there");
    assert!(
        lib.contains("#![deny(unsafe_code)]") || cargo.contains("unsafe_code = \"deny\""),
        "deny unsafe code"
    );
}

#[test]
fn one_folder_knows_the_driver() {
    check_sources(&all_sources(), rules::cudarc);
}

#[test]
fn only_the_command_line_prints() {
    check_sources(&library(), rules::prints);
}

#[test]
fn only_the_top_looks_around() {
    check_sources(&library(), rules::surroundings);
}

#[test]
fn nothing_is_left_undone() {
    check_sources(&all_sources(), rules::unfinished);
}

#[test]
fn no_path_of_a_machine() {
    let all = files();
    // What is not UTF-8 is no text.
    let texts = all.iter().filter_map(|path| Some((path, fs::read_to_string(root().join(path)).ok()?)));
    check(all.len(), texts.flat_map(|(path, text)| rules::machine_paths(path, &text)).collect());
}

#[test]
fn kernels_say_what_they_compute() {
    let kernels: Vec<_> = texts("kernels/", ".cu").into_iter().chain(texts("kernels/", ".cuh")).collect();
    check(kernels.len(), kernels.iter().flat_map(|(path, text)| rules::kernel_header(path, text)).collect());
}

#[test]
fn examples_are_numbered_and_short() {
    let found = texts("examples/", ".rs");
    let examples: Vec<(&str, &str)> =
        found.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    check(examples.len(), rules::examples(&examples));
}

#[test]
fn a_clone_stays_small() {
    let size = |path: &String| fs::metadata(root().join(path)).expect("is there").len();
    let fixtures: Vec<(String, u64)> = files()
        .into_iter()
        .filter(|path| path.starts_with("tests/fixtures/"))
        .map(|path| (size(&path), path))
        .map(|(bytes, path)| (path, bytes))
        .collect();
    check(fixtures.len(), rules::fixtures(&fixtures));
}

#[test]
fn the_changelog_has_a_place_for_news() {
    check(1, rules::changelog(&fs::read_to_string(root().join("CHANGELOG.md")).expect("is there")));
}

#[test]
fn the_map_is_true() {
    check(1, rules::map(&fs::read_to_string(root().join("ARCHITECTURE.md")).expect("is there"), &files()));
}
