//! The passes, one file or folder each, and their registry.
