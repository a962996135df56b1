//! Arguments, telemetry, command, exit code. What a command does stands in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    auscult::cli::main()
}
