//! The memory that Argon2 works in.

use allocator_api2::alloc::System;
use allocator_api2::vec::Vec;
use argon2::{Block, Error};

/// The working memory of one thread: 19 MiB for a current hash. It is kept from one hash to the next while
/// there are any waiting, and given back then.
///
/// Really given back: the binary's allocator would keep it for a second or for good, so it comes from the
/// system's, and in a size ([`MAPPED`]) that this does not keep either.
pub(super) struct Memory(Vec<Block, System>);

/// Blocks (of 1 KiB) that are asked for at least, though only those that are used become real. glibc maps
/// and unmaps every allocation of more than 32 MiB; a smaller one it may keep, once it has seen another.
const MAPPED: usize = 33 * 1024;

impl Memory {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self(Vec::new_in(System))
    }

    /// So many blocks, with whatever the last hash left in them.
    pub(super) fn blocks(&mut self, wanted: usize) -> Result<&mut [Block], Error> {
        if self.0.len() < wanted {
            // Not grown, which could hold the old and the new memory at once.
            self.give_back();
            self.0.try_reserve_exact(wanted.max(MAPPED)).map_err(|_| Error::OutOfMemory)?;
            self.0.resize(wanted, Block::new());
        }
        Ok(&mut self.0[..wanted])
    }

    /// Frees it.
    pub(super) fn give_back(&mut self) {
        *self = Self::new();
    }

    /// Whether it is larger than so many blocks.
    pub(super) fn exceeds(&self, blocks: usize) -> bool {
        self.0.len() > blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_replaced_by_more_where_more_is_needed() {
        let mut memory = Memory::new();
        assert_eq!(memory.blocks(100).unwrap().len(), 100);
        assert!(!memory.exceeds(100));
        assert_eq!(memory.blocks(50).unwrap().len(), 50);
        assert!(memory.exceeds(50), "the first is still there");
        assert_eq!(memory.blocks(40_000).unwrap().len(), 40_000);
        memory.give_back();
        assert!(!memory.exceeds(0));
    }

    /// Reads what the process has in memory (KiB).
    #[cfg(target_os = "linux")]
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = status.lines().find(|l| l.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_given_back_leaves_the_process() {
        // As many as make more than what other tests hold at the same time, and more than once: glibc
        // begins to keep what it could unmap after the first time.
        let wanted = 19 * 1024;
        let mut threads: Vec<Memory> = (0..10).map(|_| Memory::new()).collect();
        for _ in 0..3 {
            for memory in &mut threads {
                memory.blocks(wanted).unwrap();
            }
            let with = resident();
            threads.iter_mut().for_each(Memory::give_back);
            let without = resident();
            assert!(with > without + 10 * wanted * 7 / 10, "{with} KiB, then {without} KiB");
        }
    }
}
