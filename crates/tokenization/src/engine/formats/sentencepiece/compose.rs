use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use unicode_normalization_alignments::UnicodeNormalization as _;

use super::{
    charsmap::Charsmap,
    normalizer::{precompiled, remove, replace_regex},
    regex,
};

/// Stands between two characters that are not to be composed. It must be a starter (no combining class), which composes
/// with nothing, and a control for the segmentation in graphemes: both are true of this unassigned code point.
const APART: char = '\u{FFF0}';
/// Stands where a grapheme is cut so that the charsmap sees single characters.
const CUT: char = '\u{FFF1}';
/// The characters that continue a grapheme or compose with the one before, as the inside of a class.
const CONTINUING: &str =
    r"\p{M}\u{1160}-\u{11FF}\u{D7B0}-\u{D7FF}\u{200C}\u{200D}\u{FF9E}\u{FF9F}\u{1F3FB}-\u{1F3FF}\u{E0020}-\u{E007F}\u{E33}\u{EB3}";
/// The longest regular expression made of a charsmap. Those of `SentencePiece`'s own are a tenth of it.
const MAX_REGEX: usize = 1 << 20;
/// Letters of scripts encoded in Unicode 16 whose rules overlap; a text would have to be misspelt to tell.
const OVERLAPPING: [char; 6] = ['\u{113C2}', '\u{1611E}', '\u{1611F}', '\u{16129}', '\u{16D63}', '\u{16D67}'];

/// The normalizers that apply a charsmap as `SentencePiece` does: at each place the longest rule, else the character itself.
///
/// tokenizers' `Precompiled` is not that. It cuts the text in graphemes; of one of less than six bytes it looks for the
/// *shortest* rule at its start and drops the rest, and a longer one it takes character by character, so that no rule of more
/// than one character applies ("ﬁ" with an accent loses the accent, the jamo of "한" stay three). So here the rules of several
/// characters are left to NFC, which composes the same, and only them:
///
/// 1. [`APART`] is put before every combining character that no rule joins to what precedes it,
/// 2. rules that NFC does not have are replaced,
/// 3. [`CUT`] is put between the others, so that `Precompiled` sees one character at a time; it is removed afterwards,
/// 4. NFC composes what is not kept apart,
/// 5. [`APART`] is removed.
pub(super) fn normalizers(charsmap: &Charsmap, blob: &[u8]) -> (Vec<Value>, Vec<String>) {
    if charsmap.rules.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let mut differences = Vec::new();
    for mark in [APART, CUT] {
        if charsmap.rules.keys().any(|left| left.contains(mark)) {
            differences.push(format!("the normalization has a rule for U+{:X}, which stands for something else here", u32::from(mark)));
        }
    }
    let later: BTreeSet<char> = charsmap.multiple().flat_map(|(left, _)| left.chars().skip(1)).collect();
    let mut continuing: BTreeSet<char> = later.clone();
    continuing
        .extend(charsmap.single().filter(|(_, right)| right.chars().next().is_some_and(|first| is_continuing(first, &later))).map(|(left, _)| left));
    let continuing = format!("[{CONTINUING}{}", regex::class(continuing).trim_start_matches('['));
    let cut = replace_regex(&format!(r"(?!\A)(?={continuing})|(?<=\r)(?=\n)"), &CUT.to_string());
    let mut done = Vec::new();
    if later.is_empty() {
        done.extend([cut, precompiled(blob), remove(CUT)]);
        return (done, differences);
    }
    let tree = Tree::of(charsmap.multiple().map(|(left, _)| left));
    differences.extend(overlaps(charsmap));
    let Some(straddling) = tree.straddling() else {
        differences.push("the normalization has too many rules of several characters".to_owned());
        return (vec![cut, precompiled(blob), remove(CUT)], differences);
    };
    let apart = format!(r"(?!\A)(?={continuing})(?!(?={})(?:{straddling}))", regex::class(later));
    done.push(replace_regex(&apart, &APART.to_string()));
    let (others, more) = not_composed(charsmap);
    differences.extend(more);
    done.extend(others);
    done.extend([cut, precompiled(blob), remove(CUT), json!({"type": "NFC"}), remove(APART)]);
    (done, differences)
}

/// Whether a right side that begins so could be composed with what precedes it: as wide a guess as is cheap, for it only
/// costs a cut.
fn is_continuing(character: char, later: &BTreeSet<char>) -> bool {
    later.contains(&character) || matches!(u32::from(character), 0x300..=0x36F | 0x1160..=0x11FF | 0x3099 | 0x309A)
}

/// The rules whose right side NFC does not give, as replacements: one for each right side, the longest left sides first.
fn not_composed(charsmap: &Charsmap) -> (Vec<Value>, Vec<String>) {
    let mut by_right: BTreeMap<(usize, &str), Vec<&str>> = BTreeMap::new();
    for (left, right) in charsmap.multiple() {
        if !charsmap.by_character(left).nfc().map(|(character, _)| character).eq(right.chars()) {
            by_right.entry((usize::MAX - left.chars().count(), right)).or_default().push(left);
        }
    }
    let mut differences = Vec::new();
    if by_right.len() > 1024 {
        differences.push(format!("the normalization has rules of several characters with {} right sides that are not NFC's", by_right.len()));
        by_right.clear();
    }
    let stable = |text: &str| charsmap.by_character(text) == text && text.nfc().map(|(c, _)| c).eq(text.chars());
    for (_, right) in by_right.keys() {
        if !stable(right) {
            differences.push(format!("the normalization has a rule that gives {right:?}, which it would change again"));
        }
    }
    let done = by_right
        .into_iter()
        .map(|((_, right), lefts)| {
            // The same ends after different first characters: one class.
            let mut ends: BTreeMap<&str, Vec<char>> = BTreeMap::new();
            for left in lefts {
                let mut characters = left.chars();
                let first = characters.next();
                ends.entry(characters.as_str()).or_default().extend(first);
            }
            let pattern: Vec<_> = ends.into_iter().map(|(end, firsts)| format!("{}{}", regex::class(firsts), regex::escape(end))).collect();
            replace_regex(&pattern.join("|"), right)
        })
        .collect();
    (done, differences)
}

/// Rules of which one ends as another begins: which of the two applies cannot be told from the place between them.
fn overlaps(charsmap: &Charsmap) -> Option<String> {
    let mut starts = HashSet::new();
    for (left, _) in charsmap.multiple() {
        starts.extend(left.char_indices().skip(1).filter_map(|(at, _)| left.get(..at)));
    }
    charsmap
        .multiple()
        .filter(|(left, _)| left.char_indices().skip(1).filter_map(|(at, _)| left.get(at..)).any(|end| starts.contains(end)))
        .find(|(left, _)| !left.contains(OVERLAPPING))
        .map(|(left, _)| format!("the normalization has rules that overlap, such as that of {left:?}"))
}

/// The left sides as a tree of characters in which equal branches are one.
struct Tree {
    /// Of each node: whether a left side ends here, and what may follow.
    nodes: Vec<Node>,
    root: usize,
}

type Node = (bool, BTreeMap<char, usize>);

impl Tree {
    fn of<'a>(sorted: impl Iterator<Item = &'a str>) -> Self {
        let mut plain: Vec<Node> = vec![Node::default()];
        for left in sorted {
            let mut at = 0;
            for character in left.chars() {
                let next = plain.len();
                let Some((_, children)) = plain.get_mut(at) else { break };
                at = *children.entry(character).or_insert(next);
                if at == next {
                    plain.push(Node::default());
                }
            }
            if let Some((ends, _)) = plain.get_mut(at) {
                *ends = true;
            }
        }
        // A node has a greater number than its parent, so from the end on the children are done first.
        let mut nodes = Vec::new();
        let mut known: HashMap<Node, usize> = HashMap::new();
        let mut renamed = vec![0; plain.len()];
        for (index, (ends, children)) in plain.into_iter().enumerate().rev() {
            let children = children.into_iter().map(|(character, child)| (character, renamed.get(child).copied().unwrap_or_default())).collect();
            let node = (ends, children);
            let name = *known.entry(node.clone()).or_insert_with(|| {
                nodes.push(node);
                nodes.len() - 1
            });
            if let Some(slot) = renamed.get_mut(index) {
                *slot = name;
            }
        }
        Self { root: renamed.first().copied().unwrap_or_default(), nodes }
    }

    /// What may follow, the characters with the same branch together.
    fn branches(&self, node: usize) -> BTreeMap<usize, Vec<char>> {
        let mut branches: BTreeMap<usize, Vec<char>> = BTreeMap::new();
        for (character, child) in self.nodes.get(node).iter().flat_map(|(_, children)| children) {
            branches.entry(*child).or_default().push(*character);
        }
        branches
    }

    fn ends(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|(ends, _)| *ends)
    }

    /// The shortest ways from `node` to the end of a left side.
    fn rest(&self, node: usize, budget: &mut usize) -> String {
        if *budget == 0 {
            return String::new();
        }
        let mut at_once = Vec::new();
        let mut longer = Vec::new();
        for (child, characters) in self.branches(node) {
            if self.ends(child) {
                at_once.extend(characters);
            } else {
                longer.push(format!("{}{}", regex::class(characters), self.rest(child, budget)));
            }
        }
        if !at_once.is_empty() {
            longer.insert(0, regex::class(at_once));
        }
        let done = if let [only] = longer.as_slice() { only.clone() } else { format!("(?:{})", longer.join("|")) };
        *budget = budget.saturating_sub(done.len());
        if *budget == 0 { String::new() } else { done }
    }

    /// Matches, without taking anything, where a left side begins before and ends after.
    /// `None` if that is too long.
    fn straddling(&self) -> Option<String> {
        let mut budget = MAX_REGEX;
        let mut found = Vec::new();
        let mut waiting = vec![(self.root, String::new())];
        while let Some((node, before)) = waiting.pop() {
            for (child, characters) in self.branches(node) {
                if self.nodes.get(child).is_none_or(|(_, children)| children.is_empty()) {
                    continue;
                }
                let before = format!("{before}{}", regex::class(characters));
                found.push(format!("(?<={before})(?={})", self.rest(child, &mut budget)));
                budget = budget.saturating_sub(before.len());
                if budget == 0 {
                    return None;
                }
                waiting.push((child, before));
            }
        }
        Some(found.join("|"))
    }
}
