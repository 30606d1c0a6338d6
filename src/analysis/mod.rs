//! What passes ask about a graph: cost, and who is coupled to whom.
