//! The `ransnn` program. Everything is in the library; see `ransnn::cli`.

fn main() -> std::process::ExitCode {
    ransnn::cli::main()
}
