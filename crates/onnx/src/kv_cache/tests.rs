use super::*;
use crate::ElementType;

/// Three rows of four tokens, in planes of these heads of so many floats.
fn cache_of(planes: &[(usize, usize)]) -> KvCache {
    let shape = |&(heads, head_size): &(usize, usize)| PlaneShape {
        input: String::new(),
        output: String::new(),
        heads,
        head_size,
        element: ElementType::F32,
    };
    KvCache::of(planes.iter().map(shape).collect(), 3, 4, CachePlace::Host).unwrap()
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
