use super::*;
use crate::engine::{samples, truncation::Strategy};

const OPTIONS: Options = Options {
    add_special_tokens: true,
    policy: Policy::AsText,
    truncation: None,
    padding: None,
    offsets: false,
    special_mask: false,
    max_tokens: 1000,
    max_bytes: 1 << 20,
};

const CUT: Truncation = Truncation { max_tokens: 0, left: false, strategy: Strategy::LongestFirst, overflow: None };

const PADDING: Padding = Padding { multiple_of: 1, min_tokens: 0, pad_id: 0, left: false };

fn pieces() -> Tokenizer {
    samples::load(&samples::word_piece())
}

fn input(text: &str, pair: Option<&str>) -> Input {
    Input { text: text.to_owned(), pair: pair.map(str::to_owned) }
}

fn all(tokenizer: &Tokenizer, inputs: &[Input], options: Options) -> Result<Vec<Encoded>, Violation> {
    encode(tokenizer, inputs, &options, || false).map(Option::unwrap)
}

#[test]
fn order_is_kept_and_nothing_is_answered_unasked() {
    let encoded = all(&pieces(), &[input("hello", None), input("and", None)], OPTIONS).unwrap();
    assert_eq!(encoded[0], Encoded { ids: vec![2, 4, 3], ..Encoded::default() });
    assert_eq!(encoded[1], Encoded { ids: vec![2, 9, 3], ..Encoded::default() });
}

#[test]
fn one_pair_gives_type_ids_to_all() {
    let encoded = all(&pieces(), &[input("hello", Some("and and")), input("and", None)], OPTIONS).unwrap();
    assert_eq!(encoded[0].ids, [2, 4, 3, 9, 9, 3]);
    assert_eq!(encoded[0].type_ids, [0, 0, 0, 1, 1, 1]);
    assert_eq!(encoded[1].type_ids, [0, 0, 0]);
}

#[test]
fn truncation_counts_special_tokens_and_cuts_either_side() {
    let text = [input("hellos world and", None)];
    let cut = |max_tokens, left| all(&pieces(), &text, Options { truncation: Some(Truncation { max_tokens, left, ..CUT }), ..OPTIONS });
    let whole = [2, 4, 5, 6, 7, 9, 3];
    assert_eq!(cut(7, false).unwrap()[0].ids, whole);
    assert_eq!(cut(7, false).unwrap()[0].truncated, 0);
    let right = &cut(4, false).unwrap()[0];
    assert_eq!((right.ids.as_slice(), right.truncated), ([2, 4, 5, 3].as_slice(), 3));
    let left = &cut(4, true).unwrap()[0];
    assert_eq!((left.ids.as_slice(), left.truncated), ([2, 7, 9, 3].as_slice(), 3));
    assert_eq!(cut(2, false).unwrap()[0].ids, [2, 3]);
    let fault = cut(1, false).unwrap_err();
    assert_eq!(fault.field, "truncation.max_tokens");
    assert!(fault.description.contains("the 2 special tokens"), "{}", fault.description);
}

#[test]
fn a_pair_loses_tokens_of_its_longer_text() {
    let text = [input("hellos world", Some("and"))];
    let options = Options { truncation: Some(Truncation { max_tokens: 6, ..CUT }), offsets: true, ..OPTIONS };
    let encoded = &all(&pieces(), &text, options).unwrap()[0];
    assert_eq!(encoded.ids, [2, 4, 5, 3, 9, 3]);
    assert_eq!(encoded.type_ids, [0, 0, 0, 0, 1, 1]);
    assert_eq!(encoded.byte_offsets, [(0, 0), (0, 5), (5, 6), (0, 0), (0, 3), (0, 0)]);
    assert_eq!(encoded.truncated, 2);
}

#[test]
fn padding_fills_to_the_longest_rounded_up() {
    let padding = Some(Padding { multiple_of: 4, ..PADDING });
    let texts = [input("hello", Some("and")), input("", None)];
    let encoded = all(&pieces(), &texts, Options { padding, offsets: true, ..OPTIONS }).unwrap();
    assert_eq!(encoded[0].ids, [2, 4, 3, 9, 3, 0, 0, 0]);
    assert_eq!(encoded[0].attention_mask, [1, 1, 1, 1, 1, 0, 0, 0]);
    assert_eq!(encoded[0].type_ids, [0, 0, 0, 1, 1, 0, 0, 0]);
    assert_eq!(encoded[1].ids, [2, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoded[1].attention_mask, [1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!((encoded[1].byte_offsets.len(), encoded[1].char_offsets.len()), (8, 8));
}

#[test]
fn padding_goes_in_front_where_asked_and_reaches_a_length() {
    let padding = Some(Padding { min_tokens: 5, left: true, ..PADDING });
    let options = Options { padding, offsets: true, special_mask: true, ..OPTIONS };
    let encoded = all(&pieces(), &[input("hello", None), input("", None)], options).unwrap();
    assert_eq!((encoded[0].ids.as_slice(), encoded[0].attention_mask.as_slice()), ([0, 0, 2, 4, 3].as_slice(), [0, 0, 1, 1, 1].as_slice()));
    assert_eq!(
        (encoded[0].byte_offsets.as_slice(), encoded[0].special_mask.as_slice()),
        ([(0, 0), (0, 0), (0, 0), (0, 5), (0, 0)].as_slice(), [1, 1, 1, 0, 1].as_slice())
    );
    assert_eq!(encoded[1].ids, [0, 0, 0, 2, 3]);
    let bare = all(&samples::load(&samples::byte_level()), &[input("", None)], Options { padding, special_mask: true, ..OPTIONS }).unwrap();
    assert_eq!((bare[0].ids.len(), bare[0].special_mask.len()), (5, 5));
}

#[test]
fn what_is_cut_off_is_answered_in_pieces() {
    let truncation = Some(Truncation { max_tokens: 4, overflow: Some(1), ..CUT });
    let padding = Some(Padding { multiple_of: 5, ..PADDING });
    let encoded = all(&pieces(), &[input("hellos world and", None)], Options { truncation, padding, offsets: true, ..OPTIONS }).unwrap();
    let rows: Vec<&[u32]> = std::iter::once(&encoded[0]).chain(&encoded[0].overflow).map(|row| row.ids.as_slice()).collect();
    assert_eq!(rows, [[2, 4, 5, 3, 0], [2, 5, 6, 3, 0], [2, 6, 7, 3, 0], [2, 7, 9, 3, 0]]);
    assert_eq!(encoded[0].truncated, 3);
    assert_eq!(encoded[0].overflow[2].byte_offsets, [(0, 0), (10, 12), (13, 16), (0, 0), (0, 0)]);
    let many = Options { truncation: Some(Truncation { max_tokens: 64, overflow: Some(61), ..CUT }), max_tokens: 5000, ..OPTIONS };
    assert_eq!(all(&pieces(), &[input(&"and ".repeat(1000), None)], many).unwrap_err().field, "inputs");
}

#[test]
fn an_answer_cannot_grow_past_its_limit() {
    let texts = [input("hello hello hello", None), input("", None), input("", None)];
    let limited = Options { max_tokens: 12, ..OPTIONS };
    assert!(all(&pieces(), &texts, limited).is_ok());
    let padding = |multiple_of| Some(Padding { multiple_of, ..PADDING });
    assert_eq!(all(&pieces(), &texts, Options { padding: padding(1), ..limited }).unwrap_err().field, "inputs");
    let limited = Options { max_tokens: 20, padding: padding(4096), ..OPTIONS };
    assert_eq!(all(&pieces(), &texts, limited).unwrap_err().field, "padding.multiple_of");
    let filled = Some(Padding { min_tokens: 500, ..PADDING });
    let narrow = Options { max_tokens: 1 << 20, max_bytes: 10_000, padding: filled, ..OPTIONS };
    assert!(all(&pieces(), &texts, narrow).is_ok());
    assert_eq!(all(&pieces(), &texts, Options { offsets: true, ..narrow }).unwrap_err().field, "padding.min_tokens");
}

#[test]
fn a_refused_special_token_is_named_with_its_place() {
    let refuse = Options { policy: Policy::Refuse, ..OPTIONS };
    assert!(all(&pieces(), &[input("hello", Some("and"))], refuse).is_ok());
    let fault = all(&pieces(), &[input("and", None), input("hello", Some("日 [SEP]"))], refuse).unwrap_err();
    assert_eq!(fault.field, "inputs[1].pair");
    assert!(fault.description.contains("\"[SEP]\" at byte 4"), "{}", fault.description);
}

#[test]
fn offsets_are_right_in_bytes_and_characters() {
    let tokenizer = samples::load(&samples::byte_level());
    let text = [input("hello 日", Some("é hello"))];
    let encoded = &all(&tokenizer, &text, Options { offsets: true, ..OPTIONS }).unwrap()[0];
    // One token for each byte of 日 and é, each of them standing where the character does.
    assert_eq!(encoded.byte_offsets, [(0, 5), (6, 6), (6, 9), (6, 9), (6, 9), (0, 2), (0, 2), (3, 8)]);
    assert_eq!(encoded.char_offsets, [(0, 5), (6, 6), (6, 7), (6, 7), (6, 7), (0, 1), (0, 1), (2, 7)]);
}

#[test]
fn a_cancelled_request_stops_before_the_next_input() {
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let texts = [input("a", None), input("b", None), input("c", None), input("d", None)];
    assert_eq!(encode(&pieces(), &texts, &OPTIONS, cancelled), Ok(None));
    assert_eq!(asked.get(), 3);
    assert_eq!(count(&pieces(), &texts, true, || true), Ok(None));
}

#[test]
fn counts_are_those_of_encode() {
    for (name, tokenizer) in samples::all() {
        let inputs: Vec<Input> = samples::TEXTS.iter().map(|text| input(text, Some("and"))).collect();
        for add_special_tokens in [true, false] {
            let encoded = all(tokenizer, &inputs, Options { add_special_tokens, max_tokens: 1 << 20, ..OPTIONS }).unwrap();
            let counts = count(tokenizer, &inputs, add_special_tokens, || false).unwrap().unwrap();
            assert!(encoded.iter().map(|encoding| encoding.ids.len() as u32).eq(counts), "{name}");
        }
    }
}
