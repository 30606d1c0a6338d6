//! Running a graph.
