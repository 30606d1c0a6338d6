//! Random numbers by counter: what is drawn for one thing does not depend on what was drawn before, nor on threads.

/// A generator for the thing that `counter` names, such as (seed, epoch, sample).
///
/// The counter is hashed by SplitMix64's finaliser (Steele, Lea and Flood, 2014), word by word.
pub(crate) fn random(counter: &[u64]) -> fastrand::Rng {
    let mut state = counter.len() as u64;
    for word in counter {
        state = state
            .wrapping_add(*word)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    fastrand::Rng::with_seed(state)
}
