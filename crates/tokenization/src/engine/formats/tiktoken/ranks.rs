use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::engine::formats::Error;

/// The longest token taken. The longest of the published vocabularies is 128 bytes (a run of spaces); what a token costs
/// to convert grows with the square of its length.
const MAX_TOKEN: usize = 512;
/// The most tokens taken: five times the largest vocabulary published.
const MAX_TOKENS: usize = 1 << 20;

/// The tokens of a tiktoken file with their ranks.
pub(super) struct Ranks {
    /// By rank.
    tokens: Vec<(Vec<u8>, u32)>,
    ranks: HashMap<Vec<u8>, u32>,
}

impl Ranks {
    /// Reads lines of `base64 rank`. Ranks must be distinct and without gaps once sorted, but for the ends of the file:
    /// a published vocabulary leaves out none, and a gap is a damaged file. `p50k_base`, which leaves out 50256 (its
    /// special token), is the exception: one missing rank at a time is taken.
    pub(super) fn parse(file: &[u8]) -> Result<Self, Error> {
        let mut lines: Vec<(Vec<u8>, u32, usize)> = Vec::new();
        let mut ranks = HashMap::new();
        for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let number = index + 1;
            let broken = |reason: String| Error::Line { line: number, reason };
            let (token, rank) = read(line).map_err(broken)?;
            if lines.len() == MAX_TOKENS {
                return Err(broken(format!("more than {MAX_TOKENS} tokens")));
            }
            if ranks.insert(token.clone(), rank).is_some() {
                return Err(broken("this token has been given a rank before".to_owned()));
            }
            lines.push((token, rank, number));
        }
        lines.sort_by_key(|(_, rank, _)| *rank);
        let mut next = 0_u32;
        for (_, rank, line) in &lines {
            match rank.checked_sub(next) {
                None => return Err(Error::Line { line: *line, reason: format!("the rank {rank} has been given before") }),
                Some(0 | 1) => next = rank.saturating_add(1),
                Some(gap) => {
                    return Err(Error::Line { line: *line, reason: format!("the rank {rank} comes after a gap of {gap} ranks") });
                }
            }
        }
        if let Some(missing) = (0..=255_u8).find(|byte| !ranks.contains_key([*byte].as_slice())) {
            return Err(Error::Ranks(format!("the byte 0x{missing:02X} has no rank, so that some text has no tokens")));
        }
        Ok(Self { tokens: lines.into_iter().map(|(token, rank, _)| (token, rank)).collect(), ranks })
    }

    /// The tokens in the order of their ranks.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.tokens.iter().map(|(token, rank)| (token.as_slice(), *rank))
    }

    pub(super) fn rank(&self, token: &[u8]) -> Option<u32> {
        self.ranks.get(token).copied()
    }

    pub(super) fn has_rank(&self, rank: u32) -> bool {
        self.tokens.binary_search_by_key(&rank, |(_, rank)| *rank).is_ok()
    }
}

fn read(line: &[u8]) -> Result<(Vec<u8>, u32), String> {
    let line = std::str::from_utf8(line).map_err(|_| "not text".to_owned())?;
    let mut fields = line.split_ascii_whitespace();
    let (Some(token), Some(rank), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("not a token and a rank, with a space between".to_owned());
    };
    let token = STANDARD.decode(token).map_err(|error| format!("not base64: {error}"))?;
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(format!("a token of {} bytes; 1 to {MAX_TOKEN} are taken", token.len()));
    }
    let rank = rank.parse().map_err(|error| format!("the rank {rank:?}: {error}"))?;
    Ok((token, rank))
}
