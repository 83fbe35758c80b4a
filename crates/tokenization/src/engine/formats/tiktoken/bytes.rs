/// The bytes as GPT-2 writes them in its vocabulary: those that are visible in Latin-1 as they are, the others from
/// U+0100 on in their order, so that no token has a space or a control character in it.
pub(super) fn visible(token: &[u8]) -> String {
    token.iter().map(|byte| character(*byte)).collect()
}

fn character(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0..=0x20 => 0x100 + code,
        0x7F..=0xA0 => 0x100 + 0x21 + (code - 0x7F),
        _ => 0x100 + 0x21 + 0x22,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn every_byte_has_its_own_character() {
        let all: Vec<u8> = (0..=255).collect();
        let text = visible(&all);
        assert_eq!(text.chars().collect::<std::collections::HashSet<_>>().len(), 256);
        assert_eq!(visible(b" a\n\x7f\xa0\xad\xff"), "\u{120}a\u{10a}\u{121}\u{142}\u{143}\u{ff}");
    }
}
