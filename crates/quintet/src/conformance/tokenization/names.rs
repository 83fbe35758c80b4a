use quintet_proto::tokenization::v1::{CountTokensRequest, DecodeRequest, GetTokenizerRequest, TokenIds};

use super::{Subject, inputs};
use crate::conformance::check::{Checked, Verdict, ensure};

pub(super) async fn defaults(subject: &Subject) -> Checked {
    let default = &subject.listed.default_tokenizer;
    let got = subject.client().get_tokenizer(GetTokenizerRequest::default()).await?.into_inner().tokenizer.unwrap_or_default();
    ensure!(got.name == *default, "an empty model is '{}', and ListTokenizers names '{default}'", got.name);
    let highest = subject.listed.tokenizers.iter().rev().find(|tokenizer| tokenizer.name == *default);
    let Some(highest) = highest else { return Err(Verdict::failed(format!("the default '{default}' is not listed"))) };
    ensure!(got.version == highest.version, "an empty version is '{}', and the highest listed is '{}'", got.version, highest.version);
    Ok(())
}

pub(super) async fn answers(subject: &Subject) -> Checked {
    let (name, version) = (&subject.tokenizer.name, &subject.tokenizer.version);
    let mut client = subject.client();
    let encoded = client.encode(subject.encode_request(&["a"])).await?.into_inner();
    ensure!((&encoded.model, &encoded.model_version) == (name, version), "Encode names '{}' '{}'", encoded.model, encoded.model_version);
    let count = CountTokensRequest { model: name.clone(), inputs: inputs(&["a"]), ..CountTokensRequest::default() };
    let counted = client.count_tokens(count).await?.into_inner();
    ensure!((&counted.model, &counted.model_version) == (name, version), "CountTokens names '{}' '{}'", counted.model, counted.model_version);
    let decode = DecodeRequest { model: name.clone(), sequences: vec![TokenIds { ids: vec![0] }], ..DecodeRequest::default() };
    let decoded = client.decode(decode).await?.into_inner();
    ensure!((&decoded.model, &decoded.model_version) == (name, version), "Decode names '{}' '{}'", decoded.model, decoded.model_version);
    Ok(())
}

pub(super) async fn order(subject: &Subject) -> Checked {
    let names: Vec<_> = subject.listed.tokenizers.iter().map(|tokenizer| tokenizer.name.as_str()).collect();
    ensure!(names.is_sorted(), "ListTokenizers gives {}", names.join(", "));
    Ok(())
}

pub(super) async fn described(subject: &Subject) -> Checked {
    let tokenizer = &subject.tokenizer;
    let size = tokenizer.vocabulary_size;
    ensure!(size > 0, "vocabulary_size is 0");
    for special in &tokenizer.special_tokens {
        ensure!(special.id < size, "the special token {:?} has the id {} of {size}", special.content, special.id);
    }
    let ids: Vec<_> = tokenizer.special_tokens.iter().map(|special| special.id).collect();
    ensure!(ids.is_sorted_by(|one, next| one < next), "special_tokens are not by id: {ids:?}");
    let spelled = tokenizer.special_tokens.iter().find(|special| matches!(special.content.as_str(), "[MASK]" | "<mask>"));
    if let Some(mask) = tokenizer.mask_id {
        ensure!(ids.contains(&mask), "mask_id is {mask}, which is none of special_tokens");
    } else {
        ensure!(spelled.is_none(), "mask_id is absent, and {:?} is a special token", spelled.map(|special| &special.content));
    }
    if let Some(entries) = &subject.vocabulary {
        ensure!(entries.len() == size as usize, "vocabulary_size is {size}, and GetVocabulary gives {} ids", entries.len());
    }
    Ok(())
}
