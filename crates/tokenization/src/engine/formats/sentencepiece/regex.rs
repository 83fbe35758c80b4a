use std::fmt::Write as _;

/// Text as a regular expression that matches it.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut done, character| {
        push(&mut done, character);
        done
    })
}

/// A class of these characters; consecutive ones become ranges.
pub(super) fn class(characters: impl IntoIterator<Item = char>) -> String {
    let mut characters: Vec<char> = characters.into_iter().collect();
    characters.sort_unstable();
    characters.dedup();
    let mut done = String::from("[");
    let mut rest = characters.as_slice();
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(u32::from(*first)..).take_while(|(character, code)| u32::from(**character) == *code).count();
        push(&mut done, *first);
        if let Some(last) = rest.get(run.saturating_sub(1)).filter(|_| run > 1) {
            done.push('-');
            push(&mut done, *last);
        }
        rest = rest.get(run..).unwrap_or_default();
    }
    done.push(']');
    done
}

/// Every character that is not a letter or digit of ASCII is written by its number, so that none has a meaning.
fn push(done: &mut String, character: char) {
    if character.is_ascii_alphanumeric() {
        done.push(character);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(done, "\\x{{{:X}}}", u32::from(character));
    }
}
