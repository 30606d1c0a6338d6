//! Model files: read and write.
