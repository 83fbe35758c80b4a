use serde_json::Value;

use super::{bytes::visible, ranks::Ranks};
use crate::engine::formats::Error;

/// The most bytes of all merges; `o200k_base` has less than a twentieth. They can grow with the square of the file.
const MAX_BYTES: usize = 1 << 27;

/// The merges that act as tiktoken does. It joins the two neighbours whose joined bytes have the lowest rank, so every way
/// to cut a token in two tokens is a merge, and a token's merges come before those of the next rank. Of one token's, the
/// order is by the ranks of the parts, as in transformers' `TikTokenConverter`.
pub(super) fn of(ranks: &Ranks) -> Result<Vec<Value>, Error> {
    let mut bytes = 0_usize;
    let mut merges = Vec::with_capacity(ranks.tokens().size_hint().0);
    let mut cuts = Vec::new();
    for (token, _) in ranks.tokens() {
        cuts.extend(
            (1..token.len())
                .filter_map(|at| token.split_at_checked(at))
                .filter_map(|(left, right)| Some((ranks.rank(left)?, ranks.rank(right)?, left, right))),
        );
        bytes += cuts.len() * token.len();
        if bytes > MAX_BYTES {
            return Err(Error::Ranks("its tokens can be put together in too many ways".to_owned()));
        }
        cuts.sort_unstable();
        let pair = |left, right| Value::Array(vec![visible(left).into(), visible(right).into()]);
        merges.extend(cuts.drain(..).map(|(_, _, left, right)| pair(left, right)));
    }
    Ok(merges)
}
