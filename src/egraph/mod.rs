//! Equality saturation: the term language over the IR, lowering and raising, extraction.
