//! Chance that can be repeated.

/// Random numbers that can be had again (SplitMix64, Steele, Lea and Flood 2014).
pub(super) struct Seeded(u64);

impl Seeded {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to `end`, which is not among them.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % end.max(1) as u64).unwrap_or(0)
    }

    /// After how many of the changes something happens, in order.
    pub(super) fn moments(&mut self, times: usize, changes: usize) -> Vec<usize> {
        let mut moments: Vec<usize> = (0..times).map(|_| self.below(changes)).collect();
        moments.sort_unstable();
        moments
    }
}

/// A seed that is another one in every run.
pub(crate) fn any_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
