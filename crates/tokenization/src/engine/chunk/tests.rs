use proptest::prelude::*;

use super::*;
use crate::engine::samples;

fn chunks(tokenizer: &Tokenizer, text: &str, chunking: Chunking) -> Vec<Chunk> {
    chunk(tokenizer, text, "texts[0]", &chunking, |_| true, || false).unwrap().unwrap()
}

fn byte_level() -> Tokenizer {
    samples::load(&samples::byte_level())
}

const CHUNKING: Chunking = Chunking { max_tokens: 8, overlap: 0, boundary: Boundary::Token, add_special_tokens: false };

fn parts<'a>(text: &'a str, chunks: &[Chunk]) -> Vec<&'a str> {
    chunks.iter().map(|chunk| &text[chunk.bytes.0 as usize..chunk.bytes.1 as usize]).collect()
}

#[test]
fn sentences_stay_whole_where_they_fit() {
    let text = "hello. hello hello! A long long sentence? no";
    let sentences = Chunking { boundary: Boundary::Sentence, max_tokens: 12, ..CHUNKING };
    let found = chunks(&byte_level(), text, sentences);
    assert_eq!(parts(text, &found), ["hello. hello hello! ", "A long long ", "sentence? no"]);
}

#[test]
fn joined_emoji_and_marks_are_not_cut() {
    let text = "ab👩‍👩‍👧‍👦cde\u{301}f";
    let found = chunks(&byte_level(), text, Chunking { max_tokens: 22, ..CHUNKING });
    assert_eq!(parts(text, &found), ["ab", "👩‍👩‍👧‍👦c", "de\u{301}f"]);
    assert_eq!(found[1].characters, (2, 10));
}

#[test]
fn faults_name_what_is_in_the_way() {
    let fault = |text: &str, chunking| chunk(&byte_level(), text, "texts[0]", &chunking, |_| true, || false).unwrap_err();
    let narrow = fault("ab日", Chunking { max_tokens: 2, ..CHUNKING });
    assert_eq!(narrow.field, "max_tokens");
    assert!(narrow.description.contains("\"日\" at byte 2"), "{}", narrow.description);
    let full =
        chunk(&byte_level(), "abcdefgh", "texts[0]", &Chunking { max_tokens: 1, ..CHUNKING }, |chunks| chunks.len() < 3, || false).unwrap_err();
    assert!(full.field == "texts[0]" && full.description.contains("more than an answer holds"), "{full:?}");
    let framed = samples::load(&samples::word_piece());
    let none = Chunking { max_tokens: 2, add_special_tokens: true, ..CHUNKING };
    assert_eq!(chunk(&framed, "a", "texts[0]", &none, |_| true, || false).unwrap_err().field, "max_tokens");
    assert_eq!(chunk(&byte_level(), "hello", "texts[0]", &CHUNKING, |_| true, || true), Ok(None));
}

/// Normalisation may leave the end of a text without tokens of its own, which by itself has some.
#[test]
fn what_normalisation_swallows_is_covered_too() {
    let composing = samples::byte_level().replace("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}");
    let tokenizer = samples::load(&composing);
    let text = "α\u{313}\u{300}\u{345}".repeat(40) + &"\u{301}".repeat(200);
    for max_tokens in [2, 3, 7] {
        let found = chunks(&tokenizer, &text, Chunking { max_tokens, overlap: 1, ..CHUNKING });
        assert_eq!(found.last().map(|chunk| chunk.bytes.1 as usize), Some(text.len()));
        assert!(found.iter().all(|chunk| chunk.tokens <= max_tokens));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For every tokenizer: chunks fit when encoded by themselves, cover the text in order, and cut no character.
    #[test]
    fn chunks_fit_and_cover(
        pieces in prop::collection::vec(prop::sample::select(samples::TEXTS.to_vec()), 0..6),
        max_tokens in 16usize..64,
        overlap in 0usize..9,
        boundary in prop::sample::select(vec![Boundary::Token, Boundary::Word, Boundary::Sentence, Boundary::Paragraph]),
        add_special_tokens: bool,
    ) {
        let text = pieces.concat();
        for (name, tokenizer) in samples::all() {
            let chunking = Chunking { max_tokens, overlap, boundary, add_special_tokens };
            let found = chunks(tokenizer, &text, chunking);
            let mut covered = 0;
            let mut began = None;
            for (chunk, part) in found.iter().zip(parts(&text, &found)) {
                let alone = tokenizer.encode(part, false, false).unwrap().ids.len() + tokenizer.frame(false, add_special_tokens).unwrap().added();
                prop_assert_eq!(alone, chunk.tokens, "{}: {:?}", &name, part);
                prop_assert!(alone <= max_tokens, "{}: {:?} has {}", &name, part, alone);
                let (start, end) = (chunk.bytes.0 as usize, chunk.bytes.1 as usize);
                prop_assert!(start <= covered && end > covered && began < Some(start), "{}", &name);
                prop_assert_eq!(chunk.characters, (text[..start].chars().count() as u32, text[..end].chars().count() as u32));
                if overlap == 0 {
                    prop_assert_eq!(start, covered);
                }
                (covered, began) = (end, Some(start));
            }
            prop_assert_eq!(covered, text.len(), "{}", &name);
        }
    }
}
