use quintet_proto::tokenization::v1::{EncodeRequest, SpecialToken, SpecialTokenPolicy};

use super::{SERVICE, Subject};
use crate::conformance::{
    check::{Checked, Verdict, ensure},
    every::Refusal,
    target::Call,
};

/// The most special tokens that are tried: some tokenizers have hundreds.
const MOST: usize = 24;

pub(super) async fn spelled(subject: &Subject) -> Checked {
    let specials: Vec<&SpecialToken> = subject.tokenizer.special_tokens.iter().filter(|special| !special.content.is_empty()).take(MOST).collect();
    let Some(first) = specials.first() else { return Err(Verdict::skipped("the tokenizer has no special tokens")) };
    for special in &specials {
        as_text(subject, special).await?;
        allowed(subject, special).await?;
    }
    refused(subject, first).await?;
    if let [one, other, ..] = specials[..] {
        one_allowed(subject, one, other).await?;
    }
    misused(subject, first).await
}

/// What a text's own tokens are, without those that the tokenizer adds.
async fn own_ids(subject: &Subject, request: EncodeRequest) -> Result<Vec<u32>, Verdict> {
    let request = EncodeRequest { add_special_tokens: Some(false), ..request };
    Ok(subject.encoded(request).await?.into_iter().flat_map(|encoding| encoding.ids).collect())
}

/// Special tokens that these characters have one by one: the one for what is unknown may be.
async fn unknown(subject: &Subject, text: &str) -> Result<Vec<u32>, Verdict> {
    let characters: Vec<String> = text.chars().map(String::from).collect();
    let ids = own_ids(subject, subject.encode_request(&characters)).await?;
    Ok(ids.into_iter().filter(|id| subject.is_special(*id)).collect())
}

async fn as_text(subject: &Subject, special: &SpecialToken) -> Checked {
    let content = &special.content;
    let unknown = unknown(subject, content).await?;
    for text in [content.clone(), format!("a{content}b"), format!("{content} {content}")] {
        let ids = own_ids(subject, subject.encode_request(&[&text])).await?;
        let wrong = ids.iter().find(|id| subject.is_special(**id) && !unknown.contains(id));
        ensure!(wrong.is_none(), "{text:?} has the special token {wrong:?} by default: {ids:?}");
    }
    Ok(())
}

async fn allowed(subject: &Subject, special: &SpecialToken) -> Checked {
    let text = format!("a {} b", special.content);
    let request = EncodeRequest { special_tokens: SpecialTokenPolicy::Allow.into(), ..subject.encode_request(&[&text]) };
    let ids = own_ids(subject, request).await?;
    ensure!(ids.contains(&special.id), "{text:?} with ALLOW does not have {}: {ids:?}", special.id);
    Ok(())
}

async fn refused(subject: &Subject, special: &SpecialToken) -> Checked {
    let text = format!("a{}b", special.content);
    let request = EncodeRequest { special_tokens: SpecialTokenPolicy::Refuse.into(), ..subject.encode_request(&["a", &text]) };
    Refusal::invalid("K4", Call::new(SERVICE, "Encode", &request), &["inputs[1].text"]).hold(&subject.ground.target).await?;
    Ok(())
}

/// The one that is allowed becomes its token, the other stays text.
async fn one_allowed(subject: &Subject, one: &SpecialToken, other: &SpecialToken) -> Checked {
    let text = format!("a {} b {} c", one.content, other.content);
    let unknown = unknown(subject, &other.content).await?;
    let request = EncodeRequest { allowed_special_token: one.content.clone(), ..subject.encode_request(&[&text]) };
    let ids = own_ids(subject, request).await?;
    ensure!(ids.contains(&one.id), "{text:?} with {:?} allowed does not have {}: {ids:?}", one.content, one.id);
    let is_other = ids.contains(&other.id) && !unknown.contains(&other.id);
    ensure!(!is_other, "{text:?} with {:?} allowed has {:?} too: {ids:?}", one.content, other.content);
    Ok(())
}

async fn misused(subject: &Subject, special: &SpecialToken) -> Checked {
    let request = || EncodeRequest { allowed_special_token: special.content.clone(), ..subject.encode_request(&["a"]) };
    let unknown = EncodeRequest { allowed_special_token: "no such special token".to_owned(), ..request() };
    let offsets = EncodeRequest { return_offsets: true, ..request() };
    let policy = EncodeRequest { special_tokens: SpecialTokenPolicy::Refuse.into(), ..request() };
    for wrong in [unknown, offsets, policy] {
        Refusal::invalid("K4", Call::new(SERVICE, "Encode", &wrong), &["allowed_special_token"]).hold(&subject.ground.target).await?;
    }
    Ok(())
}
