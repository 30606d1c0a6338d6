//! RED: redundancies found and removed without data.
//!
//! Yvinec, Dapogny, Cord, Bailly: "RED: Looking for Redundancies for Data-Free Structured Compression of Deep Neural
//! Networks", NeurIPS 2021, arXiv 2105.14797.

pub mod hashing;
