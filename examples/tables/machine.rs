//! Where and when something was measured.

use std::process::Command;

use optc::analysis::latency::Machine;

/// The day, the machine and the compiler.
pub fn here_and_now() -> String {
    format!(
        "{}, {}, {}",
        said_by("date", &["-u", "+%F"]),
        Machine::this(),
        said_by("rustc", &["--version"])
    )
}

/// What a program of the system prints.
fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| format!("{program} unknown"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_string(),
    )
}
