//! The tokenization service: K1 to K11, and what its streams and limits are.

mod chat;
mod chunks;
mod decoding;
mod encoding;
mod names;
mod padding;
mod refusals;
mod special;
mod streams;

use futures_util::TryStreamExt;
use quintet_proto::tokenization::v1::{
    CountTokensRequest, EncodeInput, EncodeRequest, Encoding, GetVocabularyRequest, ListTokenizersRequest, ListTokenizersResponse, Tokenizer,
    VocabularyEntry, tokenization_service_client::TokenizationServiceClient,
};
use tonic::Code;

use super::{
    check::{Check, Verdict, check, ensure},
    every::{Ground, as_it_is},
    service::Service,
    target::{Call, Target},
};
use crate::client::{Channel, MAX_MESSAGE_BYTES};

const SERVICE: &str = Service::Tokenization.full_name();

/// Texts in many scripts, with what tokenizers tend to get wrong.
const TEXTS: [&str; 8] = [
    "In the beginning God created the heaven and the earth.",
    "  two  blanks, a tab\tand\n\nlines",
    "naïve café — “quoted” … 3.14 x_y-z",
    "天地玄黄，宇宙洪荒。 こんにちは 한국어",
    "🌍👩‍👩‍👧‍👦 🇩🇪 e\u{301}",
    "שלום עולם مرحبا हिन्दी ไทย",
    "don't can't I'll 1234567890",
    "a",
];

/// What a target has of tokenizers.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) ground: Ground,
    listed: ListTokenizersResponse,
    /// The one that is asked.
    tokenizer: Tokenizer,
    /// Its vocabulary; absent where the target gives none.
    vocabulary: Option<Vec<VocabularyEntry>>,
}

pub(super) const CHECKS: &[Check<Subject>] = &[
    check!("N1", "An empty model means the default one, an empty version the highest.", names::defaults),
    check!("N2", "Answers name the tokenizer and the version that were used.", names::answers),
    check!("N3", "Listings are in order of name, then version.", names::order),
    check!("L2", "4,096 texts are taken in one request.", encoding::most_inputs),
    check!("L3", "A text has at most 1 MiB, a request to decode 4,194,304 ids, a message of DecodeStream 131,072.", encoding::lengths),
    check!("S2", "The first message of a DecodeStream settles what holds; in an EncodeStream a model stands for later messages.", streams::settles),
    check!("S3", "A stream answers each message in order, whether or not others follow.", streams::in_order),
    check!("S4", "The first fault ends a stream: the answers to earlier messages come, then the status.", streams::first_fault),
    check!("S5", "A stream of no messages is OK.", streams::of_nothing),
    check!("R4", "Encodings depend on the input alone: one by one, all at once or by stream, in any order.", encoding::alone_or_together),
    check!("K1", "Decoding gives the text back, for byte-level BPE; bytes are what the ids stand for, and no UTF-8 is U+FFFD.", decoding::round_trip),
    check!("K2", "DecodeStream's texts concatenate to Decode's, however the ids are parted.", decoding::streamed),
    check!("K3", "GetVocabulary gives each id once, in order, with its bytes after another token.", decoding::vocabulary),
    check!("K4", "Text that spells a special token is text by default; ALLOW, REFUSE and allowed_special_token change that.", special::spelled),
    check!("K5", "In ApplyChatTemplate what users spell is text, what the template writes are special tokens.", chat::spelled),
    check!("K6", "Offsets are in bytes and characters of the text as given; added special tokens are at 0-0.", encoding::offsets),
    check!("K7", "With truncation no row is too long, pieces cover the text; with padding all rows have one length.", padding::rows),
    check!("K8", "CountTokens gives the lengths that Encode gives.", encoding::counts),
    check!("K9", "Each chunk has at most max_tokens by itself; chunks cover the text and cut no character.", chunks::cover),
    check!("K10", "Ids outside the vocabulary are INVALID_ARGUMENT with their path.", decoding::unknown_ids),
    check!("K11", "vocabulary_size counts all ids, and mask_id is one of special_tokens.", names::described),
];

fn inputs<T: AsRef<str>>(texts: &[T]) -> Vec<EncodeInput> {
    texts.iter().map(|text| EncodeInput { text: text.as_ref().to_owned(), ..EncodeInput::default() }).collect()
}

impl Subject {
    /// Finds what the target has.
    pub(super) async fn find(target: &Target) -> Result<Self, Verdict> {
        let mut client = client(target.channel());
        let listed = client.list_tokenizers(ListTokenizersRequest {}).await?.into_inner();
        let wanted = if target.model.is_empty() { &listed.default_tokenizer } else { &target.model };
        let Some(tokenizer) = listed.tokenizers.iter().rev().find(|tokenizer| tokenizer.name == *wanted).cloned() else {
            return Err(Verdict::failed(format!("ListTokenizers does not have '{wanted}'")));
        };
        let named = GetVocabularyRequest { model: tokenizer.name.clone(), model_version: tokenizer.version.clone() };
        let vocabulary = match client.get_vocabulary(named).await {
            Ok(parts) => Some(
                parts
                    .into_inner()
                    .try_fold(Vec::new(), |mut all, part| async {
                        all.extend(part.entries);
                        Ok(all)
                    })
                    .await?,
            ),
            Err(status) if status.code() == Code::Unimplemented => None,
            Err(status) => return Err(status.into()),
        };
        let request = |texts: &[&str]| EncodeRequest {
            model: tokenizer.name.clone(),
            model_version: tokenizer.version.clone(),
            inputs: inputs(texts),
            ..EncodeRequest::default()
        };
        let count = CountTokensRequest { model: tokenizer.name.clone(), inputs: inputs(&TEXTS), ..CountTokensRequest::default() };
        let ordinary = Call::new(SERVICE, "Encode", &request(&TEXTS[..4]));
        target.answer(&ordinary).await?;
        let ground = Ground {
            target: target.clone(),
            service: SERVICE,
            company: vec![
                Call::new(SERVICE, "Encode", &request(&TEXTS[2..])),
                Call::new(SERVICE, "Encode", &EncodeRequest { return_offsets: true, ..request(&[&TEXTS.concat().repeat(20)]) }),
                Call::new(SERVICE, "CountTokens", &count),
            ],
            refusals: refusals::of(&tokenizer),
            long_name: Some(Call::new(SERVICE, "Encode", &EncodeRequest { model: "ü".repeat(32 << 10), ..request(&["a"]) })),
            endless: Some(Call::new(SERVICE, "DecodeStream", &streams::first(&tokenizer, &[]))),
            settled: as_it_is,
            ordinary,
        };
        Ok(Self { ground, listed, tokenizer, vocabulary })
    }

    fn client(&self) -> TokenizationServiceClient<Channel> {
        client(self.ground.target.channel())
    }

    /// A request to encode with the tokenizer that is asked.
    fn encode_request<T: AsRef<str>>(&self, texts: &[T]) -> EncodeRequest {
        EncodeRequest {
            model: self.tokenizer.name.clone(),
            model_version: self.tokenizer.version.clone(),
            inputs: inputs(texts),
            ..EncodeRequest::default()
        }
    }

    /// The encodings of a request, one for each input.
    async fn encoded(&self, request: EncodeRequest) -> Result<Vec<Encoding>, Verdict> {
        let count = request.inputs.len();
        let encodings = self.client().encode(request).await?.into_inner().encodings;
        ensure!(encodings.len() == count, "Encode of {count} inputs gives {} encodings", encodings.len());
        Ok(encodings)
    }

    /// The ids of a text by itself, without special tokens.
    async fn ids(&self, text: &str) -> Result<Vec<u32>, Verdict> {
        let request = EncodeRequest { add_special_tokens: Some(false), ..self.encode_request(&[text]) };
        Ok(self.encoded(request).await?.into_iter().flat_map(|encoding| encoding.ids).collect())
    }

    fn vocabulary(&self) -> Result<&[VocabularyEntry], Verdict> {
        self.vocabulary.as_deref().ok_or_else(|| Verdict::skipped("the target does not have GetVocabulary"))
    }

    fn is_special(&self, id: u32) -> bool {
        self.tokenizer.special_tokens.iter().any(|special| special.id == id)
    }
}

fn client(channel: Channel) -> TokenizationServiceClient<Channel> {
    TokenizationServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}
