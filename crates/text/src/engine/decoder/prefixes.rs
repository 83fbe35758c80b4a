//! Prefixes whose keys and values are known already.

use std::{collections::HashMap, sync::Arc};

/// Tokens of a block: what is kept and found again is a whole number of blocks.
pub(super) const BLOCK: usize = 32;

/// Keys and values of prefixes of prompts, by the tokens: a radix tree over blocks of tokens for each scope.
///
/// A block's keys and values depend on all tokens before it, so a block is found only below the blocks before it. Under the
/// budget, the block that was used longest ago goes first; a block that others stand on is used whenever they are.
#[derive(Debug)]
pub(super) struct Prefixes {
    blocks: HashMap<u64, Block>,
    children: HashMap<Place, u64>,
    budget: usize,
    bytes: usize,
    next: u64,
    clock: u64,
}

/// Where a block stands: its scope, the block before it, its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    scope: Arc<str>,
    before: Option<u64>,
    tokens: [u32; BLOCK],
}

#[derive(Debug)]
struct Block {
    place: Place,
    values: Vec<u8>,
    /// Blocks right behind it.
    followers: usize,
    used: u64,
}

impl Prefixes {
    /// An empty store for so many bytes of keys and values.
    pub(super) fn new(budget: usize) -> Self {
        Self { blocks: HashMap::new(), children: HashMap::new(), budget, bytes: 0, next: 0, clock: 0 }
    }

    /// The bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The keys and values of as many blocks at the start of `tokens` as are known, in order.
    pub(super) fn find(&mut self, scope: &Arc<str>, tokens: &[u32]) -> Vec<&[u8]> {
        self.clock += 1;
        let mut found = Vec::new();
        let mut before = None;
        for block in tokens.as_chunks::<BLOCK>().0 {
            let place = Place { scope: Arc::clone(scope), before, tokens: *block };
            let Some(id) = self.children.get(&place) else { break };
            if let Some(block) = self.blocks.get_mut(id) {
                block.used = self.clock;
            }
            found.push(*id);
            before = Some(*id);
        }
        found.iter().filter_map(|id| self.blocks.get(id)).map(|block| block.values.as_slice()).collect()
    }

    /// Keeps the blocks of `tokens` that are not known yet; `read` gives the keys and values of the block at a token.
    pub(super) fn keep(&mut self, scope: &Arc<str>, tokens: &[u32], mut read: impl FnMut(usize) -> Vec<u8>) {
        if self.budget == 0 {
            return;
        }
        self.clock += 1;
        let mut before = None;
        for (index, block) in tokens.as_chunks::<BLOCK>().0.iter().enumerate() {
            let place = Place { scope: Arc::clone(scope), before, tokens: *block };
            let id = if let Some(id) = self.children.get(&place) {
                *id
            } else {
                let values = read(index * BLOCK);
                if !self.make_room(values.len()) {
                    return;
                }
                self.add(place, values)
            };
            if let Some(block) = self.blocks.get_mut(&id) {
                block.used = self.clock;
            }
            before = Some(id);
        }
    }

    fn add(&mut self, place: Place, values: Vec<u8>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.bytes += values.len();
        if let Some(before) = place.before.and_then(|before| self.blocks.get_mut(&before)) {
            before.followers += 1;
        }
        self.children.insert(place.clone(), id);
        self.blocks.insert(id, Block { place, values, followers: 0, used: self.clock });
        id
    }

    /// Drops what was used longest ago until `wanted` bytes fit. What this very call has used stays.
    fn make_room(&mut self, wanted: usize) -> bool {
        while self.bytes + wanted > self.budget {
            let ends = self.blocks.iter().filter(|(_, block)| block.followers == 0 && block.used < self.clock);
            let Some(oldest) = ends.min_by_key(|(id, block)| (block.used, **id)).map(|(id, _)| *id) else { return false };
            let Some(block) = self.blocks.remove(&oldest) else { return false };
            self.bytes -= block.values.len();
            self.children.remove(&block.place);
            if let Some(before) = block.place.before.and_then(|before| self.blocks.get_mut(&before)) {
                before.followers -= 1;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(name: &str) -> Arc<str> {
        name.into()
    }

    /// What stands for the values of a block: the tokens up to its end.
    fn values(tokens: &[u32], at: usize) -> Vec<u8> {
        tokens[..at + BLOCK].iter().map(|token| *token as u8).collect()
    }

    #[test]
    fn whole_blocks_are_found_below_the_same_beginning_and_scope_alone() {
        let mut prefixes = Prefixes::new(1 << 20);
        let long: Vec<u32> = (0..100).collect();
        prefixes.keep(&scope("a"), &long, |at| values(&long, at));
        assert_eq!(prefixes.find(&scope("a"), &long).len(), 3);
        assert_eq!(prefixes.find(&scope("a"), &long[..95]).len(), 2);
        assert_eq!(prefixes.find(&scope("b"), &long).len(), 0, "another tenant's prompts are not there");
        // The same second block behind another first one is another block.
        let mut other = long.clone();
        other[0] = 99;
        assert_eq!(prefixes.find(&scope("a"), &other).len(), 0);
    }

    #[test]
    fn the_longest_unused_goes_first_and_never_what_others_stand_on() {
        let block = |first: u32| (first..first + 64).collect::<Vec<u32>>();
        // Two blocks of 64 + 32 bytes each a prompt: room for two prompts.
        let mut prefixes = Prefixes::new(2 * 96);
        for first in [0, 100] {
            prefixes.keep(&scope(""), &block(first), |at| values(&block(first), at));
        }
        assert_eq!(prefixes.bytes(), 192);
        assert_eq!(prefixes.find(&scope(""), &block(0)).len(), 2);
        prefixes.keep(&scope(""), &block(200), |at| values(&block(200), at));
        assert_eq!(prefixes.find(&scope(""), &block(0)).len(), 2, "used a moment ago");
        assert_eq!(prefixes.find(&scope(""), &block(200)).len(), 2);
        assert_eq!(prefixes.find(&scope(""), &block(100)).len(), 0);
    }

    proptest! {
        /// Whatever is kept and found: the budget holds, and each found block is that of these very tokens.
        #[test]
        fn the_budget_holds_and_what_is_found_is_right(prompts in prop::collection::vec((0u32..3, 0usize..6, 0u32..2), 1..60), budget in 0usize..4000) {
            let mut prefixes = Prefixes::new(budget);
            for (first, blocks, tenant) in prompts {
                let tokens: Vec<u32> = (0..blocks * BLOCK + 7).map(|place| (place as u32 / BLOCK as u32) * 10 + first % (1 + place as u32 / 40)).collect();
                let scope = scope(if tenant == 0 { "a" } else { "b" });
                for (index, found) in prefixes.find(&scope, &tokens).into_iter().enumerate() {
                    prop_assert_eq!(found, values(&tokens, index * BLOCK));
                }
                prefixes.keep(&scope, &tokens, |at| values(&tokens, at));
                prop_assert!(prefixes.bytes() <= budget);
                prop_assert_eq!(prefixes.bytes(), prefixes.blocks.values().map(|block| block.values.len()).sum::<usize>());
                prop_assert_eq!(prefixes.blocks.len(), prefixes.children.len());
            }
        }
    }
}
