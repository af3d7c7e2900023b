//! Parses the command line and starts; `evenkeel::cli` has the commands.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    evenkeel::cli::main()
}
