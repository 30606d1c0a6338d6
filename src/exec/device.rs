//! Where libtorch computes.

use std::fmt;
use std::str::FromStr;

/// A device of libtorch's: `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of this number, from 0.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let number = |n: &str| n.parse().ok().filter(|n| *n <= MAX_DEVICE);
        match text.split_once(':') {
            None if text == "cpu" => Some(Device::Cpu),
            None if text == "cuda" => Some(Device::Cuda(0)),
            Some(("cuda", n)) => number(n).map(Device::Cuda),
            _ => None,
        }
        .ok_or_else(|| "it must be cpu, cuda or cuda:N, such as cuda:0".to_string())
    }
}

/// libtorch keeps a device's number in a byte.
const MAX_DEVICE: usize = 127;

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}
