use super::*;
use crate::ElementType;

/// Three rows of four tokens, in planes of these heads of so many floats.
fn cache_of(planes: &[(usize, usize)]) -> KvCache {
    rows_of(4, planes.iter().map(|&(heads, head_size)| plane(heads, head_size, ElementType::F32)).collect())
}

/// Three rows of so many tokens.
fn rows_of(tokens: usize, planes: Vec<PlaneShape>) -> KvCache {
    KvCache::of(planes, 3, tokens, CachePlace::Host).unwrap()
}

fn plane(heads: usize, head_size: usize, element: ElementType) -> PlaneShape {
    PlaneShape { input: String::new(), output: String::new(), heads, head_size, element }
}

/// Keys and values of two heads of one float each, and keys of one head of two; three rows of four tokens.
fn cache() -> KvCache {
    cache_of(&[(2, 1), (2, 1), (1, 2)])
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn what_is_written_is_read_plane_by_plane_and_head_by_head() {
    let mut cache = cache();
    cache.write(1, 1, &bytes(&[1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0, 21.0, 22.0, 23.0, 24.0]));
    assert_eq!(cache.read(1, 1..3), bytes(&[1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0, 21.0, 22.0, 23.0, 24.0]));
    assert_eq!(cache.read(1, 0..2), bytes(&[0.0, 1.0, 0.0, 3.0, 0.0, 11.0, 0.0, 13.0, 0.0, 0.0, 21.0, 22.0]));
    assert_eq!(cache.committed(1), 3);
    cache.copy_row(1, 2, 2);
    assert_eq!(cache.read(2, 1..2), bytes(&[1.0, 3.0, 11.0, 13.0, 21.0, 22.0]));
    assert_eq!(cache.read(2, 2..3), bytes(&[0.0; 6]), "only as many as were asked for");
    assert_eq!(cache.read(0, 0..4), bytes(&[0.0; 24]), "another row");
}

#[test]
fn what_an_earlier_occupant_left_behind_a_row_is_given_back() {
    // A token of a head takes a page.
    let floats = PAGE / 4;
    let mut cache = KvCache { inputs: Some(Box::new(cache_of(&[(1, floats)]))), ..cache_of(&[(2, floats), (2, floats)]) };
    let ones = bytes(&vec![1.0; 4 * 4 * floats]);
    for row in 0..3 {
        cache.write(row, 0, &ones);
    }
    cache.trim(1, 2);
    assert_eq!([0, 1, 2].map(|row| cache.committed(row)), [4, 2, 4]);
    assert!(cache.read(1, 0..2) == ones[..ones.len() / 2], "its own tokens stay");
    assert!(cache.read(1, 2..4).iter().all(|byte| *byte == 0), "pages that were given back are zeros");
    assert!(cache.read(0, 0..4) == ones && cache.read(2, 0..4) == ones, "other rows stay");
    cache.trim(1, 3);
    cache.trim(3, 0);
    assert_eq!(cache.committed_tokens(), 10, "it never grows, and there is no such row");

    cache.inputs.as_mut().unwrap().hold(1, 4);
    cache.trim_input(1, 2);
    assert_eq!(cache.committed_input(1), 3, "a step writes one token behind the input");
}

#[test]
fn a_page_that_others_share_is_not_given_back() {
    let mut cache = cache();
    for row in 0..3 {
        cache.write(row, 0, &bytes(&[1.0; 24]));
    }
    cache.trim(1, 1);
    assert_eq!(cache.committed(1), 1);
    assert_eq!([cache.read(0, 0..4), cache.read(2, 0..4)], [bytes(&[1.0; 24]), bytes(&[1.0; 24])]);
}

#[test]
fn nothing_is_written_beyond_a_row() {
    let mut cache = cache();
    cache.write(1, 3, &bytes(&[1.0; 12]));
    cache.write(3, 0, &bytes(&[1.0; 6]));
    cache.copy_row(0, 1, 5);
    assert_eq!(cache.committed_tokens(), 0);
}

#[test]
fn values_of_one_byte_lie_and_are_given_back_as_others_are() {
    // Heads of a whole number of pages, and behind them one of an odd number of bytes, which begins on a page of its own.
    let capacity = 2 * PAGE / 16;
    let mut cache = rows_of(capacity, vec![plane(2, 16, ElementType::I8), plane(2, 16, ElementType::I8), plane(1, 3, ElementType::I8)]);
    assert_eq!(cache.token_bytes(), 2 * 2 * 16 + 3);
    let token = |seed: usize| (0..67).map(|place| (seed * 67 + place) as u8).collect::<Vec<u8>>();
    for row in 0..3 {
        for at in 0..capacity {
            cache.write(row, at, &token(row * capacity + at));
        }
    }
    assert_eq!(cache.committed_bytes(), 3 * capacity * 67);
    let all_as_written =
        |cache: &KvCache, row: usize, tokens: Range<usize>| tokens.into_iter().all(|at| cache.read(row, at..at + 1) == token(row * capacity + at));
    assert!((0..3).all(|row| all_as_written(&cache, row, 0..capacity)));

    let page = PAGE / 16;
    cache.trim(1, page - 1);
    assert_eq!(cache.committed_bytes(), (2 * capacity + page - 1) * 67);
    assert!(all_as_written(&cache, 0, 0..capacity) && all_as_written(&cache, 2, 0..capacity), "other rows stay");
    assert!(all_as_written(&cache, 1, 0..page), "what shares a page with its own tokens stays");
    assert!((page..capacity).all(|at| cache.read(1, at..at + 1)[..64] == [0; 64]), "whole pages of each head are given back");

    cache.copy_row(2, 1, 5);
    assert!((0..5).all(|at| cache.read(1, at..at + 1) == token(2 * capacity + at)));
    assert_eq!(cache.past(2, 3).unwrap()[0].1.shape(), [1, 2, 3, 16]);
    assert!(matches!(cache.past(2, 3).unwrap()[0].1, Tensor::I8(_)));
}

#[test]
fn a_cache_of_other_types_is_refused_by_name() {
    let input =
        |element| TensorInfo { name: "past_key_values.0.key".into(), element, shape: vec![None, Some(2), None, Some(16)], symbols: Vec::new() };
    for element in [ElementType::F32, ElementType::F16, ElementType::I8] {
        assert_eq!(PlaneShape::of(&input(element), None).unwrap().token_bytes(), 32 * element.size());
    }
    let refused = PlaneShape::of(&input(ElementType::U8), None).unwrap_err().to_string();
    assert!(refused.contains("past_key_values.0.key") && refused.contains("a cache of U8 is not supported: F32, F16 and I8 are"), "{refused}");
}
