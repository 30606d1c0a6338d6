//! Which machine this is, as far as times depend on it.

use std::fmt;
use std::thread;

use serde::{Deserialize, Serialize};

/// A machine that times were measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model, as the system names it.
    pub cpu: String,
    /// The cores that a program may use.
    pub cores: usize,
    /// 32-bit floats in a vector register, such as 4 for NEON, 8 for AVX2, 16 for AVX-512.
    pub lanes: usize,
}

impl Machine {
    /// The machine that this runs on.
    pub fn this() -> Machine {
        Machine {
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            lanes: lanes(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.cores == 1 { "" } else { "s" };
        write!(f, "{} ({} core{s})", self.cpu, self.cores)
    }
}

/// Virtual machines tend to hide the model's number in its name, so family and model are part of it.
#[cfg(target_os = "linux")]
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let known = [
        field("model name").map(str::to_string),
        field("cpu family").map(|n| format!("family {n}")),
        field("model").map(|n| format!("model {n}")),
        field("CPU implementer").map(|n| format!("implementer {n}")),
        field("CPU part").map(|n| format!("part {n}")),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(" "))
}

#[cfg(target_os = "macos")]
fn cpu() -> Option<String> {
    let output = std::process::Command::new("sysctl")
        .args(["-n", "machdep.cpu.brand_string"])
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (!name.is_empty()).then_some(name)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn cpu() -> Option<String> {
    std::env::var("PROCESSOR_IDENTIFIER").ok()
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn lanes() -> usize {
    if is_x86_feature_detected!("avx512f") {
        16
    } else if is_x86_feature_detected!("avx2") {
        8
    } else {
        4
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
fn lanes() -> usize {
    4
}
