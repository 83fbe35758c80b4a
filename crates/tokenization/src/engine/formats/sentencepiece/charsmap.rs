use std::collections::{BTreeMap, HashMap, HashSet};

use crate::engine::formats::Error;

/// The most rules read. `SentencePiece`'s own have a quarter of a million.
const MAX_RULES: usize = 1 << 19;
/// The longest left side of a rule, in bytes. `SentencePiece`'s own have up to 16.
const MAX_KEY: usize = 32;
/// The most bytes of all rules. A small file can share much between rules.
const MAX_BYTES: usize = 1 << 26;

/// The rules of a `precompiled_charsmap`: the length of a double array in bytes (little-endian, 32 bits), the array of
/// 32-bit units, and the right sides, each ended by a zero byte. The array is that of darts-clone, whose values are
/// offsets into the right sides.
///
/// The crate that applies it later indexes the array without checks, so the whole of it is walked here.
#[derive(Default)]
pub(super) struct Charsmap {
    /// Left side to right side.
    pub(super) rules: BTreeMap<String, String>,
}

impl Charsmap {
    pub(super) fn parse(blob: &[u8]) -> Result<Self, Error> {
        if blob.is_empty() {
            return Ok(Self::default());
        }
        let (size, rest) = blob.split_first_chunk::<4>().ok_or_else(|| broken("it is cut short"))?;
        let size = u32::from_le_bytes(*size) as usize;
        let (array, right) = rest.split_at_checked(size).filter(|_| size.is_multiple_of(4)).ok_or_else(|| broken("it is cut short"))?;
        let units: Vec<u32> = array.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let right = std::str::from_utf8(right).map_err(|_| broken("its right sides are not UTF-8"))?;
        let mut walk = Walk { units: &units, children: HashMap::new() };
        let root = units.first().map(|unit| offset(*unit)).ok_or_else(|| broken("it is empty"))?;
        let mut rules = BTreeMap::new();
        let mut waiting = vec![(root, Vec::new())];
        let mut steps = 0_usize;
        let mut bytes = 0_usize;
        while let Some((node, key)) = waiting.pop() {
            steps += 1;
            if steps > 4 * MAX_RULES || rules.len() > MAX_RULES {
                return Err(broken("it has too many rules"));
            }
            if key.len() > MAX_KEY {
                return Err(broken("it has a rule that is too long"));
            }
            for Child { label, node, value } in walk.children(node)? {
                let mut key = key.clone();
                key.push(*label);
                if let Some(value) = value {
                    let text = right.get(*value..).ok_or_else(|| broken("a rule has no right side"))?;
                    let text = text.split('\0').next().unwrap_or_default();
                    let left = String::from_utf8(key.clone()).map_err(|_| broken("a rule's left side is not UTF-8"))?;
                    bytes += left.len() + text.len();
                    if bytes > MAX_BYTES {
                        return Err(broken("its rules are too long"));
                    }
                    rules.insert(left, text.to_owned());
                }
                waiting.push((*node, key));
            }
        }
        Ok(Self { rules })
    }

    /// The rules whose left side is one character.
    pub(super) fn single(&self) -> impl Iterator<Item = (char, &str)> {
        self.rules.iter().filter_map(|(left, right)| {
            let mut characters = left.chars();
            characters.next().filter(|_| characters.as_str().is_empty()).map(|character| (character, right.as_str()))
        })
    }

    /// The rules whose left side is more than one character.
    pub(super) fn multiple(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().filter(|(left, _)| left.chars().nth(1).is_some()).map(|(left, right)| (left.as_str(), right.as_str()))
    }

    /// What one character becomes if nothing follows that is in a rule with it.
    pub(super) fn character<'a>(&'a self, character: &'a str) -> &'a str {
        self.rules.get(character).map_or(character, String::as_str)
    }

    /// The characters of the rules of several.
    pub(super) fn edges(&self) -> Edges {
        let mut edges = Edges::default();
        for (left, _) in self.multiple() {
            let mut characters = left.chars();
            edges.first.extend(characters.next());
            edges.later.extend(characters);
        }
        edges
    }

    /// Whether a rule of several characters applies somewhere in `text`.
    pub(super) fn multiple_in(&self, text: &str) -> bool {
        let mut bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        bounds.push(text.len());
        bounds.iter().enumerate().any(|(index, start)| {
            bounds.iter().skip(index + 2).take(MAX_KEY).any(|end| text.get(*start..*end).is_some_and(|part| self.rules.contains_key(part)))
        })
    }

    /// Each character on its own.
    pub(super) fn by_character(&self, text: &str) -> String {
        let mut buffer = [0; 4];
        text.chars().fold(String::new(), |mut done, character| {
            done.push_str(self.character(character.encode_utf8(&mut buffer)));
            done
        })
    }
}

/// Where rules of several characters begin, and how they go on.
#[derive(Default)]
pub(super) struct Edges {
    pub(super) first: HashSet<char>,
    pub(super) later: HashSet<char>,
}

struct Child {
    label: u8,
    node: usize,
    value: Option<usize>,
}

/// darts-clone shares equal ends between words, so that a node is met often; its children are found once.
struct Walk<'a> {
    units: &'a [u32],
    children: HashMap<usize, Vec<Child>>,
}

impl Walk<'_> {
    fn children(&mut self, node: usize) -> Result<&[Child], Error> {
        if !self.children.contains_key(&node) {
            // Whatever byte comes next, the array must have a unit for it.
            if node | 0xFF >= self.units.len() {
                return Err(broken("it points out of itself"));
            }
            let mut found = Vec::new();
            for label in 1..=255_u8 {
                let at = node ^ usize::from(label);
                let Some(unit) = self.units.get(at).filter(|unit| *unit & 0x8000_00FF == u32::from(label)) else { continue };
                let node = at ^ offset(*unit);
                let value = if unit >> 8 & 1 == 1 {
                    let value = self.units.get(node).ok_or_else(|| broken("it points out of itself"))?;
                    Some((value & 0x7FFF_FFFF) as usize)
                } else {
                    None
                };
                found.push(Child { label, node, value });
            }
            self.children.insert(node, found);
        }
        Ok(self.children.get(&node).map(Vec::as_slice).unwrap_or_default())
    }
}

/// The distance to a unit's children.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 0x200) >> 6)) as usize
}

fn broken(reason: &str) -> Error {
    Error::Broken(format!("the precompiled_charsmap: {reason}"))
}
