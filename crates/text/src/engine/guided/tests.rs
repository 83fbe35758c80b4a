//! Texts drawn under guides, and guides that mean harm.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::*;

const END: u32 = 255;
const OTHER_END: u32 = 256;
const SPECIAL: u32 = 257;

/// Every byte, some of them twice as in vocabularies with byte fallback, and pieces as they occur in JSON and in words.
fn tokens() -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    tokens.push(b"</s>".to_vec());
    tokens.push(b"<tool>".to_vec());
    for piece in [
        "\":", "\", \"", "\"}", "}]", "true", "false", "null", "  ", "\n", "ab", "red", "gre", "green", "20", "-0", "é", "日本", "\\n", "\\u00",
        "[[", "{\"",
    ] {
        tokens.push(piece.as_bytes().to_vec());
    }
    tokens.extend((b'a'..=b'z').flat_map(|a| (b'a'..=b'z').map(move |b| vec![a, b])));
    tokens.push(b"a".to_vec());
    tokens.push(vec![0xC3]);
    tokens.push(Vec::new());
    tokens
}

fn vocabulary() -> Vocabulary {
    Vocabulary::new(tokens(), &[SPECIAL], &[END, OTHER_END]).unwrap()
}

fn schema(value: &Value) -> Guide {
    Guide::JsonSchema(value.to_string())
}

fn compiled(guide: &Guide) -> Result<Constraint, GuideError> {
    Constraint::new(&vocabulary(), guide, &Limits::default())
}

fn refused(guide: &Guide) -> GuideError {
    compiled(guide).map(|_| ()).unwrap_err()
}

fn allowed(mask: &[u32]) -> Vec<u32> {
    (0..mask.len() as u32 * 32).filter(|token| mask[*token as usize / 32] & (1 << (token % 32)) != 0).collect()
}

/// A text whose tokens are drawn at random from the masks. After a while it takes what is likely to come to an end.
fn draw(constraint: &mut Constraint, seed: u64) -> String {
    let tokens = tokens();
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut text = Vec::new();
    for step in 0..5000 {
        let mask = constraint.mask().unwrap().to_vec();
        let may = allowed(&mask);
        assert!(!may.is_empty());
        for token in &may {
            assert!((*token as usize) < tokens.len() && *token != SPECIAL);
            assert!([END, OTHER_END].contains(token) || !tokens[*token as usize].is_empty());
        }
        assert_eq!(may.contains(&END), constraint.is_finished());
        assert_eq!(may.contains(&OTHER_END), constraint.is_finished());
        if constraint.must_stop() {
            assert_eq!(may, [END, OTHER_END]);
        }
        // What is outside the mask is refused, and refusing it changes nothing.
        let outside = random.random_range(0..tokens.len() as u32 + 40);
        if !may.contains(&outside) {
            assert_eq!(constraint.accept(outside), Err(GuideError::NotAllowed { token: outside }));
            assert_eq!(constraint.mask().unwrap(), mask);
        }
        let closing = [END, u32::from(b'"'), u32::from(b'}'), u32::from(b']'), u32::from(b':'), u32::from(b',')];
        let token = match closing.iter().find(|token| step > 60 && may.contains(token)) {
            Some(token) => *token,
            None => may[random.random_range(0..may.len())],
        };
        constraint.accept(token).unwrap();
        if token == END || token == OTHER_END {
            assert!(constraint.must_stop());
            assert_eq!(allowed(constraint.mask().unwrap()), [END, OTHER_END]);
            assert_eq!(constraint.accept(END), Err(GuideError::NotAllowed { token: END }));
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(&tokens[token as usize]);
    }
    panic!("it did not end: {}", String::from_utf8_lossy(&text));
}

fn draws(guide: &Guide, count: u64, check: impl Fn(&str)) {
    let constraint = compiled(guide).unwrap();
    (0..count).for_each(|seed| check(&draw(&mut constraint.fork(), seed)));
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn what_is_drawn_under_a_schema_is_json_that_satisfies_it() {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "kind": {"enum": ["red", "green", 3, null]},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-c]{1,3}$"}, "minItems": 1, "maxItems": 3},
            "score": {"type": "number", "exclusiveMinimum": -1, "maximum": 1.5},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    });
    draws(&schema(&person), 60, |text| {
        let value: Value = serde_json::from_str(text).unwrap();
        let keys = keys(&value);
        assert!(keys.is_superset(&BTreeSet::from(["name", "age", "tags"])), "{text}");
        assert!(keys.is_subset(&BTreeSet::from(["name", "age", "tags", "kind", "score"])), "{text}");
        assert!((2..=8).contains(&value["name"].as_str().unwrap().chars().count()), "{text}");
        assert!(value["age"].as_u64().unwrap() <= 130, "{text}");
        assert!(value.get("kind").is_none_or(|kind| [json!("red"), json!("green"), json!(3), Value::Null].contains(kind)), "{text}");
        let tags = value["tags"].as_array().unwrap();
        assert!((1..=3).contains(&tags.len()), "{text}");
        assert!(tags.iter().all(|tag| tag.as_str().unwrap().len() <= 3 && tag.as_str().unwrap().bytes().all(|b| b"abc".contains(&b))), "{text}");
        assert!(value.get("score").is_none_or(|score| score.as_f64().unwrap() > -1.0 && score.as_f64().unwrap() <= 1.5), "{text}");
    });
}

#[test]
fn what_is_drawn_under_a_schema_that_refers_to_itself_is_a_tree() {
    fn check(value: &Value) {
        assert_eq!(keys(value), BTreeSet::from(["v", "next"]));
        assert!(value["v"].is_boolean());
        let next = value["next"].as_array().unwrap();
        assert!(next.len() <= 2);
        next.iter().for_each(check);
    }
    let tree = json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {
            "type": "object",
            "properties": {"v": {"type": "boolean"}, "next": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
            "required": ["v", "next"],
            "additionalProperties": false,
        }},
    });
    draws(&schema(&tree), 40, |text| check(&serde_json::from_str(text).unwrap()));
}

#[test]
fn multiples_are_multiples() {
    let whole = schema(&json!({"allOf": [{"type": "integer", "multipleOf": 12}, {"multipleOf": 90}], "minimum": 0, "maximum": 5000}));
    draws(&whole, 40, |text| assert_eq!(text.parse::<u32>().unwrap() % 180, 0, "{text}"));
    let cents = schema(&json!({"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 90}));
    draws(&cents, 40, |text| assert_eq!((text.parse::<f64>().unwrap() * 4.0).fract(), 0.0, "{text}"));
}

#[test]
fn alternatives_and_tuples_are_kept_apart() {
    let either = json!({"oneOf": [
        {"type": "object", "properties": {"k": {"const": "a"}, "x": {"type": "integer"}}, "required": ["k", "x"], "additionalProperties": false},
        {"type": "object", "properties": {"k": {"const": "b"}, "y": {"type": "null"}}, "required": ["k", "y"], "additionalProperties": false},
        {"type": "array", "prefixItems": [{"type": "boolean"}, {"const": "é"}], "items": false, "minItems": 2},
    ]});
    draws(&schema(&either), 60, |text| {
        let value: Value = serde_json::from_str(text).unwrap();
        match &value {
            Value::Array(items) => assert!(items.len() == 2 && items[0].is_boolean() && items[1] == "é", "{text}"),
            _ if value["k"] == "a" => assert!(value["x"].is_i64() || value["x"].is_u64() || value["x"].is_f64(), "{text}"),
            _ => assert_eq!(value, json!({"k": "b", "y": null})),
        }
    });
}

#[test]
fn any_object_is_an_object() {
    draws(&Guide::JsonSchema(r#"{"type": "object"}"#.to_owned()), 40, |text| {
        assert!(serde_json::from_str::<Value>(text).unwrap().is_object(), "{text}");
    });
}

#[test]
fn white_space_comes_to_an_end() {
    let mut constraint = compiled(&Guide::JsonSchema(r#"{"type": "object"}"#.to_owned())).unwrap();
    constraint.accept(u32::from(b'{')).unwrap();
    let spaces = (0..100).take_while(|_| constraint.accept(u32::from(b' ')).is_ok()).count();
    assert_eq!(spaces, 40);
}

#[test]
fn a_choice_is_one_of_the_choices() {
    let choices = ["red", "green", "green ", "redder", "a\"b\\c/d", "line\nline\t\u{0}\u{7f}", "日本", "</s>", "<tool>", "<[255]>", "/a/i", "é"];
    let guide = Guide::Choices(choices.iter().map(ToString::to_string).collect());
    let seen = std::cell::RefCell::new(BTreeSet::new());
    draws(&guide, 400, |text| {
        assert!(choices.contains(&text), "{text:?}");
        seen.borrow_mut().insert(text.to_owned());
    });
    assert_eq!(seen.borrow().len(), choices.len());
}

#[test]
fn the_end_of_the_only_way_on_is_told() {
    let mut constraint = compiled(&Guide::Choices(vec!["a".to_owned(), "ab".to_owned(), "abcd".to_owned()])).unwrap();
    assert!(!constraint.is_finished() && !constraint.must_stop());
    constraint.accept(u32::from(b'a')).unwrap();
    assert!(constraint.is_finished() && !constraint.must_stop());
    constraint.accept(u32::from(b'b')).unwrap();
    assert!(constraint.is_finished() && !constraint.must_stop());
    constraint.accept(u32::from(b'c')).unwrap();
    assert!(!constraint.is_finished() && !constraint.must_stop());
    assert_eq!(constraint.accept(END), Err(GuideError::NotAllowed { token: END }));
    constraint.accept(u32::from(b'd')).unwrap();
    assert!(constraint.is_finished() && constraint.must_stop());
    assert_eq!(constraint.accept(u32::from(b'd')), Err(GuideError::NotAllowed { token: u32::from(b'd') }));
    constraint.accept(END).unwrap();
}

#[test]
fn what_is_drawn_under_an_expression_matches_it() {
    for expression in [
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",
        "^(a|bc)+d?$",
        r"(?i)yes|no/never\\",
        "[^a-z]{2,5}",
        "(?s:.{3,6})",
        r"\p{L}{2}x*",
        r"[\w-]{2}\W[^\d]/",
    ] {
        let ascii = [(r"\d", "[0-9]"), (r"\w", "[0-9A-Za-z_]"), (r"\W", "[^0-9A-Za-z_]")];
        let plain = ascii.iter().fold(expression.to_owned(), |text, (class, meaning)| text.replace(class, meaning));
        let whole = regex::Regex::new(&format!("^(?:{plain})$")).unwrap();
        draws(&Guide::Regex(expression.to_owned()), 40, |text| assert!(whole.is_match(text), "{expression}: {text:?}"));
    }
}

#[test]
fn what_is_drawn_under_a_grammar_is_of_its_language() {
    let grammar = "start: sum\nsum: product | sum \"+\" product\nproduct: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]{1,2}/\n";
    draws(&Guide::Grammar(grammar.to_owned()), 40, |text| {
        let depth = text.bytes().try_fold(0_i32, |depth, byte| match byte {
            b'(' => Some(depth + 1),
            b')' if depth > 0 => Some(depth - 1),
            b'+' | b'0'..=b'9' => Some(depth),
            _ => None,
        });
        assert_eq!(depth, Some(0), "{text}");
        assert!(!text.contains("++") && !text.contains("()") && !text.starts_with('+') && !text.ends_with('+'), "{text}");
    });
    // A schema within a grammar.
    draws(&Guide::Grammar("start: \"call \" %json {\"type\": \"boolean\"}".to_owned()), 10, |text| {
        assert!(text.strip_prefix("call").unwrap().trim().parse::<bool>().is_ok(), "{text:?}");
    });
}

#[test]
fn tokens_that_are_not_in_a_mask_are_refused_before_it_is_computed() {
    let mut constraint = compiled(&Guide::Regex("[a-z<>/]+".to_owned())).unwrap();
    constraint.accept(u32::from(b'a')).unwrap();
    for token in [SPECIAL, END + 10_000, u32::MAX, u32::from(b'A'), tokens().len() as u32 - 1, tokens().len() as u32] {
        assert_eq!(constraint.accept(token), Err(GuideError::NotAllowed { token }));
    }
    constraint.accept(u32::from(b'b')).unwrap();
    constraint.accept(OTHER_END).unwrap();
}

#[test]
fn forks_go_their_own_ways() {
    let mut one = compiled(&Guide::Choices(vec!["abc".to_owned(), "abd".to_owned()])).unwrap();
    one.accept(u32::from(b'a')).unwrap();
    let mut other = one.fork();
    for (constraint, last) in [(&mut one, b'c'), (&mut other, b'd')] {
        constraint.accept(u32::from(b'b')).unwrap();
        constraint.accept(u32::from(last)).unwrap();
        assert!(constraint.must_stop());
    }
}

#[test]
fn masks_are_the_same_each_time() {
    let guide = schema(&json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}));
    let run = || {
        let mut constraint = compiled(&guide).unwrap();
        let mut random = ChaCha12Rng::seed_from_u64(1);
        (0..60)
            .map_while(|_| {
                let mask = constraint.mask().unwrap().to_vec();
                let may = allowed(&mask);
                constraint.accept(may[random.random_range(0..may.len())]).unwrap();
                (!constraint.must_stop()).then_some(mask)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn constraints_move_between_threads() {
    fn sends<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    sends::<Constraint>();
    shared::<Vocabulary>();
    let mut constraint = compiled(&Guide::JsonSchema(r#"{"type": "object"}"#.to_owned())).unwrap();
    constraint.accept(u32::from(b'{')).unwrap();
    let (mask, mut constraint) = thread::spawn(move || (constraint.mask().unwrap().to_vec(), constraint)).join().unwrap();
    assert_eq!(constraint.mask().unwrap(), mask);
}

#[test]
fn a_vocabulary_that_cannot_guide_is_refused() {
    let refused = |tokens: Vec<Vec<u8>>, end: &[u32]| Vocabulary::new(tokens, &[], end).map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused(tokens(), &[]), "the vocabulary cannot guide: no token ends a text");
    assert!(refused(tokens(), &[100_000]).contains("token 100000, which ends a text, is beyond its"));
    assert!(refused(vec![Vec::new(); 10], &[1]).contains("its tokens make a trie of 0 nodes"));
    let long = |i: u32| [&i.to_be_bytes()[..], &[b'a'; 1000]].concat();
    assert!(refused((0..5000).map(long).collect(), &[1]).contains("from 1 to 4194302 are possible"));
    // What many tokens share is counted once.
    assert!(Vocabulary::new(vec![vec![b'a'; 1000]; 5000], &[], &[1]).is_ok());
    // Tokens longer than it can hold are left out, and the longest that it can is kept.
    let vocabulary = Vocabulary::new(vec![vec![b'a'; 1024], vec![b'a'; 1025], Vec::new()], &[], &[2]).unwrap();
    let mut constraint = Constraint::new(&vocabulary, &Guide::Regex("a*".to_owned()), &Limits::default()).unwrap();
    assert_eq!(constraint.mask().unwrap(), [0b101]);
    assert_eq!(
        Constraint::new(&vocabulary, &Guide::Regex("b".to_owned()), &Limits::default()).map(|_| ()).unwrap_err().to_string(),
        "the regular expression is not valid: no text that the vocabulary can write satisfies it"
    );
}

#[test]
fn a_text_that_cannot_go_on_says_so() {
    let vocabulary = Vocabulary::new(vec![b"a".to_vec(), Vec::new()], &[], &[1]).unwrap();
    let mut constraint = Constraint::new(&vocabulary, &Guide::Regex("a(b|c)".to_owned()), &Limits::default()).unwrap();
    constraint.accept(0).unwrap();
    let dead = Err(GuideError::DeadEnd { kind: "regular expression" });
    assert_eq!(constraint.mask().map(<[u32]>::to_vec), dead);
    assert_eq!(constraint.accept(0), dead.map(|_: Vec<u32>| ()));
}

#[test]
fn what_is_not_valid_is_refused_with_a_reason() {
    let text = |guide: &Guide| refused(guide).to_string();
    for (schema, reason) in [
        ("{", "the schema is not valid: EOF while parsing an object at line 1 column 1"),
        ("3", "the schema is not valid: it must be an object or a boolean"),
        ("false", "the schema is not valid: nothing satisfies it"),
        (r#"{"type": "text"}"#, "the schema is not valid: Invalid type: text"),
        (r##"{"$ref": "#/$defs/a"}"##, "the schema is not valid: Reference segment '$defs' not found in '#/$defs/a'."),
        (r#"{"type": "integer", "minimum": 3, "maximum": 2}"#, "the schema is not valid: "),
        (r##"{"$ref": "#"}"##, "the schema is not valid: no text that the vocabulary can write satisfies it"),
        (r#"{"not": {"type": "null"}}"#, r#"the schema uses what is not supported: Unimplemented keys: ["not"]"#),
        (r#"{"not": {}, "x-guidance": {"lenient": true}}"#, r#"the schema uses what is not supported: Unimplemented keys: ["not"]"#),
        (
            r#"{"patternProperties": {"^a": {}, "b$": {}}}"#,
            "the schema uses what is not supported: patternProperty regexes /^a/ and /b$/ are not disjoint",
        ),
        (r#"{"type": "string", "format": "colour"}"#, "the schema uses what is not supported: Unknown format: colour"),
        (r#"{"oneOf": [{"minimum": 1}, {"maximum": 9}]}"#, "the schema uses what is not supported: oneOf constraints are not supported"),
        (r#"{"$ref": "http://127.0.0.1:1/x.json"}"#, "the schema uses what is not supported: Only absolute $ref's (#/...) are supported"),
        (r#"{"$ref": "file:///etc/passwd"}"#, "the schema uses what is not supported: Only absolute $ref's (#/...) are supported"),
    ] {
        let found = text(&Guide::JsonSchema(schema.to_owned()));
        assert!(found.starts_with(reason), "{schema}: {found}");
    }
    for (expression, reason) in [
        ("a(", "the regular expression is not valid: unclosed group"),
        ("((((((((((", "the regular expression is not valid: unclosed group"),
        ("", "the regular expression is not valid: it is empty"),
        (r"a\", "the regular expression is not valid: it ends in a backslash that escapes nothing"),
        (r"[^\s\S]", "the regular expression is not valid: no text that the vocabulary can write satisfies it"),
        ("(?=a)b", "the regular expression uses what is not supported: look-around, including look-ahead and look-behind, is not supported"),
        (r"\bfoo", "the regular expression uses what is not supported: lookarounds not supported yet"),
        ("a^b", "the regular expression uses what is not supported: lookarounds not supported yet"),
        ("a(?P<stop>b)", "the regular expression uses what is not supported: a group called 'stop'"),
    ] {
        let found = text(&Guide::Regex(expression.to_owned()));
        assert!(found.starts_with(reason), "{expression}: {found}");
    }
    for (grammar, reason) in [
        ("", "the grammar is not valid: no start rule found"),
        ("start: a", "the grammar is not valid: "),
        ("start: \"a", "the grammar is not valid: 1("),
        ("start: <[5]>", "the grammar uses what is not supported: tokens by name or number"),
        ("start: <[*]>", "the grammar uses what is not supported: tokens by name or number"),
        ("start: <|tool|>", "the grammar is not valid: "),
        ("start: %json [1]", "the grammar is not valid: %json must be followed by a JSON object"),
        ("start: s\ns: s", "the grammar is not valid: no text that the vocabulary can write satisfies it"),
    ] {
        let found = text(&Guide::Grammar(grammar.to_owned()));
        assert!(found.starts_with(reason), "{grammar}: {found}");
        assert!(!found.contains("backtrace"), "{found}");
    }
    assert_eq!(text(&Guide::Choices(Vec::new())), "the list of choices is not valid: it is empty");
    assert_eq!(text(&Guide::Choices(vec![String::new()])), "the list of choices is not valid: a choice is empty");
}

#[test]
fn a_panic_within_is_an_error() {
    // `llguidance` cuts what it quotes at a byte that may lie within a character.
    let panics = schema(&json!({"type": "string", "minLength": format!("{}é{}", "a".repeat(98), "a".repeat(50))}));
    let found = refused(&panics).to_string();
    assert!(found.starts_with("the schema is not valid: panic: end byte index 100 is not a char boundary"), "{found}");
    assert!(found.len() < 700 && !found.contains("backtrace"), "{found}");
}

#[test]
fn what_is_too_large_is_refused_at_once() {
    let limits = Limits::default();
    let began = Instant::now();
    for (guide, kind, limit) in [
        (Guide::Choices(vec!["a".repeat(1 << 20)]), "list of choices", limits.max_bytes),
        (Guide::JsonSchema(" ".repeat(1 << 20)), "schema", limits.max_bytes),
        (Guide::Regex("a".repeat(1 << 20)), "regular expression", limits.max_regex_bytes),
        (Guide::Grammar("a".repeat(1 << 20)), "grammar", limits.max_grammar_bytes),
    ] {
        assert_eq!(refused(&guide), GuideError::TooLarge { kind, bytes: 1 << 20, limit });
    }
    let named = |count: usize, form: fn(usize) -> String| (0..count).map(form).collect::<Vec<_>>().join(",");
    for (schema, reason) in [
        (format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "it nests deeper than 64"),
        (format!("{}{}", r#"{"items":"#.repeat(7000), "}"), "it nests deeper than 64"),
        (format!(r#"{{"properties":{{{}}}}}"#, named(451, |i| format!(r#""{i}":{{}}"#))), "an object has 451 properties; at most 450 are allowed"),
        (format!(r#"{{"required":[{}]}}"#, named(1001, |i| format!(r#""{i}""#))), "1001 names are required; at most 1000 are allowed"),
        (
            format!(r#"{{"patternProperties":{{{}}}}}"#, named(33, |i| format!(r#""^a{i}$":{{}}"#))),
            "it has 33 patterns for properties; at most 32 are allowed",
        ),
        (
            format!(r#"{{"minProperties":1,"properties":{{{}}}}}"#, named(33, |i| format!(r#""{i}":{{}}"#))),
            "minProperties and maxProperties are allowed beside at most 32 named properties; it has 33",
        ),
        (
            r#"{"allOf":[{"multipleOf":99991},{"multipleOf":99989}]}"#.to_owned(),
            "multipleOf is 99991; at most 20000 and 4 decimal places are allowed",
        ),
        (format!(r#"{{"pattern":"{}"}}"#, "a?".repeat(2500)), "a pattern has 5000 bytes; at most 4096 are allowed"),
    ] {
        assert_eq!(refused(&Guide::JsonSchema(schema.clone())), GuideError::TooComplex { kind: "schema", message: reason.to_owned() });
        if schema.len() < 16 << 10 && schema.starts_with('{') && schema.ends_with("}}") {
            let within = refused(&Guide::Grammar(format!("start: %json {schema}")));
            assert_eq!(within, GuideError::TooComplex { kind: "grammar", message: reason.to_owned() });
        }
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Text that joins what this makes of each number.
fn many(count: usize, between: &str, form: impl Fn(usize) -> String) -> String {
    (0..count).map(form).collect::<Vec<_>>().join(between)
}

/// Guides within the limits of size that cost the most that is known.
fn hostile() -> Vec<(&'static str, Guide)> {
    let chain = |count: usize, open: &str, close: &str| {
        let links = many(count, ",", |i| format!(r##""{i}":{open}{{"$ref":"#/$defs/{}"}}{close}"##, i + 1));
        Guide::JsonSchema(format!(r##"{{"$ref":"#/$defs/0","$defs":{{{links},"{count}":{{"type":"null"}}}}}}"##))
    };
    let rules = |count: usize, name: &str, open: &str, close: &str| {
        let links = many(count, "\n", |i| format!("{name}{i}: {open}{name}{}{close}", i + 1));
        Guide::Grammar(format!("start: {name}0\n{links}\n{name}{count}: \"a\"\n"))
    };
    let schema = |text: String| Guide::JsonSchema(text);
    let regex = |text: &str| Guide::Regex(text.to_owned());
    let grammar = |text: String| Guide::Grammar(text);
    let object = |i: usize| format!(r#"{{"type":"object","properties":{{"a{i}":{{"type":"string"}},"b{i}":{{}}}}}}"#);
    let any = format!(r#"{{"anyOf":[{}]}}"#, many(60, ",", object));
    vec![
        ("a chain of references", chain(2050, "", "")),
        ("a chain through items", chain(88, &r#"{"items":"#.repeat(58), &"}".repeat(58))),
        ("a chain through properties", chain(1250, r#"{"properties":{"a":"#, "}}")),
        ("a chain through allOf", chain(125, &r#"{"allOf":["#.repeat(28), &"]}".repeat(28))),
        ("a chain through anyOf", chain(1000, r#"{"anyOf":[{"type":"null"},"#, "]}")),
        (
            "many multiples",
            schema(format!(r#"{{"properties":{{{}}}}}"#, many(440, ",", |i| format!(r#""{i}":{{"type":"integer","multipleOf":{}}}"#, 1 + i % 90)))),
        ),
        ("a large multiple", schema(r#"{"type":"integer","multipleOf":19997}"#.to_owned())),
        ("products of alternatives", schema(format!(r#"{{"allOf":[{any},{any},{any},{any}]}}"#))),
        ("thousands of alternatives", schema(format!(r#"{{"oneOf":[{}]}}"#, many(3400, ",", |i| format!(r#"{{"const":"{i}"}}"#))))),
        ("thousands of values", schema(format!(r#"{{"enum":[{}]}}"#, many(9000, ",", |i| format!(r#""{i}""#))))),
        (
            "objects merged into a large one",
            schema(format!(
                r#"{{"allOf":[{}]}}"#,
                many(9, ",", |j| format!(r#"{{"type":"object","properties":{{{}}}}}"#, many(440, ",", |i| format!(r#""{j}x{i}":{{}}"#))))
            )),
        ),
        ("long strings", schema(r#"{"type":"string","minLength":100000,"maxLength":1000000000}"#.to_owned())),
        ("many items", schema(r#"{"type":"array","minItems":1000000000,"maxItems":18446744073709551615}"#.to_owned())),
        ("many required", schema(format!(r#"{{"type":"object","required":[{}]}}"#, many(1000, ",", |i| format!(r#""{i}""#))))),
        (
            "hard patterns",
            schema(format!(
                r#"{{"type":"object","properties":{{{}}}}}"#,
                many(440, ",", |i| format!(r#""p{i}":{{"type":"string","pattern":"^.*a.{{9}}{i}.*b$","minLength":2}}"#))
            )),
        ),
        (
            "patterns of properties",
            schema(format!(
                r#"{{"type":"object","patternProperties":{{{}}}}}"#,
                many(32, ",", |i| format!(r#""^{i:02}(.*a.{{6}}|.*b.{{7}})*x$":{{}}"#))
            )),
        ),
        (
            "counted properties",
            schema(format!(
                r#"{{"type":"object","minProperties":1,"additionalProperties":false,"properties":{{{}}}}}"#,
                many(32, ",", |i| format!(r#""{i}":{{}}"#))
            )),
        ),
        ("an exponential expression", regex("(a?){1000}a{1000}")),
        ("a long repeat", regex("a{1,100000}")),
        ("repeats of repeats", regex("(((a{1,1000}b?){1,1000}c?){1,1000}d?){1,1000}")),
        ("the longest repeat", regex("[a-z]{1,4294967295}")),
        ("repeats of classes", regex(r"(\p{L}\p{N}){1,1000}\w{500}")),
        ("many optional classes", Guide::Regex(r"\w?".repeat(1300))),
        ("many optional letters", Guide::Regex("a?".repeat(2000))),
        ("many states", regex("(.*a.{20}|.*b.{21}|.*c.{22})*")),
        ("deep groups", Guide::Regex(format!("{}a{}", "(".repeat(2000), ")".repeat(2000)))),
        ("a long choice", Guide::Choices(vec!["a".repeat(65_000)])),
        ("many choices", Guide::Choices((0..12_000).map(|i| i.to_string()).collect())),
        ("a chain of rules", rules(1200, "r", "", "")),
        ("a chain of rules in groups", rules(340, "r", &"(".repeat(14), &")".repeat(14))),
        ("a chain of terminals", rules(1200, "T", "", "")),
        ("a chain of terminals in groups", rules(340, "T", &"(".repeat(14), &")".repeat(14))),
        ("doubling terminals", grammar(format!("start: T0\n{}\nT40: \"a\"\n", many(40, "\n", |i| format!("T{i}: T{} T{}", i + 1, i + 1))))),
        ("doubling rules", grammar(format!("start: r0\n{}\nr40: \"a\"\n", many(40, "\n", |i| format!("r{i}: r{} r{}", i + 1, i + 1))))),
        ("deep conditions", grammar(format!("start: a::0\na::_: \"a\" %if {}true{}\n", "not(".repeat(3200), ")".repeat(3200)))),
        ("deep groups of rules", grammar(format!("start: {}\"a\"{}", "(".repeat(8000), ")".repeat(8000)))),
        ("many optional terminals", grammar(format!("start: T\nT: {}", "\"a\"? ".repeat(3200)))),
        ("many optional rules", grammar(format!("start: {}", "\"a\"? ".repeat(3200)))),
        ("a long expression", grammar(format!("start: /{}/", "a?".repeat(8000)))),
        ("many expressions", grammar(format!("start: {}", many(900, "|", |i| format!("/.*a{i}.{{9}}b/"))))),
        ("an ambiguous grammar", grammar("start: s\ns: s s | \"a\" | \"\"\n".to_owned())),
        ("repeats in a grammar", grammar("start: ((((\"a\"{1,100000}){1,100000}){1,100000})){1,100000}".to_owned())),
    ]
}

/// They are refused or work, within some seconds (of a machine that does other things) and without a crash; so do the masks, which are
/// computed on a thread with a common stack.
#[test]
fn hostile_guides_end_in_time() {
    let vocabulary = vocabulary();
    for (name, guide) in hostile() {
        let began = Instant::now();
        let constraint = Constraint::new(&vocabulary, &guide, &Limits::default());
        let compiled = began.elapsed();
        let said = constraint.as_ref().map_or_else(ToString::to_string, |_| "works".to_owned());
        assert!(!matches!(constraint, Err(GuideError::TooLarge { .. })), "{name}: {said}");
        let slowest = constraint.map_or(Duration::ZERO, |mut constraint| {
            let masks = move || {
                let mut random = ChaCha12Rng::seed_from_u64(7);
                let mut slowest = Duration::ZERO;
                for _ in 0..200 {
                    let began = Instant::now();
                    let may = constraint.mask().map(allowed);
                    let taken = may.is_ok_and(|may| constraint.accept(may[random.random_range(0..may.len())]).is_ok());
                    slowest = slowest.max(began.elapsed());
                    if !taken || constraint.must_stop() {
                        break;
                    }
                }
                slowest
            };
            thread::Builder::new().stack_size(2 << 20).spawn(masks).unwrap().join().unwrap()
        });
        println!("{name}: {said:.90} in {compiled:?}; slowest step {slowest:?}");
        // Without optimisation all of it is some twenty times slower.
        let slack = if cfg!(debug_assertions) { 20 } else { 1 };
        assert!(compiled < Duration::from_secs(10) * slack && slowest < Duration::from_secs(2) * slack, "{name}: {compiled:?}, {slowest:?}");
    }
}
