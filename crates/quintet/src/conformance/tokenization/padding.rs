use quintet_proto::tokenization::v1::{EncodeRequest, Encoding, Padding, Truncation};

use super::{Subject, TEXTS};
use crate::conformance::check::{Checked, Verdict, ensure};

/// Tokens of the text itself that a row may have.
const ROOM: usize = 6;
const MULTIPLE: u32 = 8;

pub(super) async fn rows(subject: &Subject) -> Checked {
    let text = TEXTS.join(" ");
    let framed = subject.encoded(subject.encode_request(&["a"])).await?.pop().unwrap_or_default().ids.len();
    let frame = framed - subject.ids("a").await?.len().min(framed);
    let most = frame + ROOM;
    let truncation = Truncation { max_tokens: most as u32, return_overflow: true, stride: 2, ..Truncation::default() };
    let every = EncodeRequest { return_offsets: true, return_special_tokens_mask: true, ..subject.encode_request(&[&text]) };
    let whole = subject.encoded(every.clone()).await?.pop().unwrap_or_default();
    let cut = subject.encoded(EncodeRequest { truncation: Some(truncation), ..every.clone() }).await?.pop().unwrap_or_default();
    let pieces: Vec<&Encoding> = std::iter::once(&cut).chain(&cut.overflow).collect();
    for piece in &pieces {
        ensure!(piece.ids.len() <= most, "a row has {} tokens, and max_tokens is {most}", piece.ids.len());
    }
    ensure!(pieces.len() > 1, "{} tokens were cut to {most} without a piece of overflow", whole.ids.len());
    let (by_pieces, by_whole) = (covered(pieces.iter().copied(), text.len()), covered([&whole], text.len()));
    ensure!(by_pieces == by_whole, "the pieces of an overflow leave out bytes of the text that its whole encoding has");

    let padding = Padding { multiple_of: MULTIPLE, pad_id: Some(subject.tokenizer.pad_id.unwrap_or(0)), ..Padding::default() };
    let texts = EncodeRequest { truncation: Some(truncation), padding: Some(padding), ..subject.encode_request(&TEXTS) };
    let padded = subject.encoded(texts).await?;
    let rows: Vec<&Encoding> = padded.iter().flat_map(|row| std::iter::once(row).chain(&row.overflow)).collect();
    let Some(length) = rows.first().map(|row| row.ids.len()) else { return Err(Verdict::failed("no rows")) };
    ensure!(length % MULTIPLE as usize == 0, "rows have {length} tokens with multiple_of = {MULTIPLE}");
    for row in rows {
        ensure!(row.ids.len() == length, "one row has {} tokens, another {length}", row.ids.len());
        ensure!(row.attention_mask.len() == length, "a row of {length} tokens has a mask of {}", row.attention_mask.len());
    }
    Ok(())
}

/// Which bytes of a text the tokens of some encodings stand at.
fn covered<'a>(encodings: impl IntoIterator<Item = &'a Encoding>, length: usize) -> Vec<bool> {
    let mut covered = vec![false; length];
    for encoding in encodings {
        for (span, mark) in encoding.byte_offsets.iter().zip(&encoding.special_tokens_mask) {
            if let Some(bytes) = covered.get_mut(span.start as usize..span.end as usize)
                && *mark == 0
            {
                bytes.fill(true);
            }
        }
    }
    covered
}
