//! Graph passes that make trained networks smaller and faster, and write the same kind of file.
#![warn(missing_docs)]
