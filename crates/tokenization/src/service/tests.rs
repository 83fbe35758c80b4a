use std::{fmt::Write as _, path::Path};

use quintet_onnx::{ModelsConfig, Repository};
use quintet_proto::tokenization::v1::{tokenization_service_client::TokenizationServiceClient, *};
use quintet_serving::{peer::Peer, server::Server};
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{Config, build, config::tests::defaults, engine::samples};

type Client = TokenizationServiceClient<Peer>;

/// A running service over a repository of its own; it ends with the test's runtime.
struct Running {
    client: Client,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _models: tempfile::TempDir,
}

impl Running {
    async fn stop(self) {
        drop(self.client);
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

fn folder(models: &Path, name: &str, files: &[(&str, &str)]) {
    let folder = models.join(name).join("3");
    std::fs::create_dir_all(&folder).unwrap();
    let mut manifest =
        "schema = 1\nkind = \"tokenizer\"\ndescription = \"\"\nlicense = \"\"\ntraining_data = []\ngolden_tolerance = 0.0\n[tokenizer]\n[sha256]\n"
            .to_owned();
    for (file, text) in files {
        std::fs::write(folder.join(file), text).unwrap();
        writeln!(manifest, "{file:?} = \"{}\"", hex::encode(Sha256::digest(text))).unwrap();
    }
    std::fs::write(folder.join("quintet.toml"), manifest).unwrap();
}

fn repository(files: &[(&str, String)], keep_going: bool) -> (tempfile::TempDir, Repository) {
    let models = tempfile::tempdir().unwrap();
    folder(models.path(), "a-model-without", &[]);
    for (name, json) in files {
        folder(models.path(), name, &[("tokenizer.json", json), ("tokenizer_config.json", r#"{"model_max_length": 77}"#)]);
    }
    let opened = Repository::open(&ModelsConfig { keep_going, ..ModelsConfig::local(models.path().to_owned()) }).unwrap();
    (models, opened)
}

async fn start_with(config: Config, files: &[(&str, String)]) -> Running {
    let (models, repository) = repository(files, true);
    start_over(config, models, &repository).await
}

async fn start_over(config: Config, models: tempfile::TempDir, repository: &Repository) -> Running {
    let settings = defaults();
    let server = Server::bind(&quintet_serving::server::ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..settings.server }).await.unwrap();
    let served = build(&config, &server, repository).unwrap();
    let client = Client::new(server.local_channel()).max_decoding_message_size(1 << 26);
    let shutdown = CancellationToken::new();
    let serving = Box::pin(server.serve(vec![served.component], quintet_proto::FILE_DESCRIPTOR_SET, shutdown.clone()));
    #[allow(clippy::disallowed_methods, reason = "the server itself is not on its tracker")]
    let serving = tokio::task::spawn(async move { serving.await.unwrap() });
    Running { client, shutdown, serving, _models: models }
}

async fn start() -> Running {
    let files =
        [("byte-level", samples::byte_level()), ("llama", samples::unigram(&samples::llama_decoder())), ("word-piece", samples::word_piece())];
    start_with(defaults().tokenization, &files).await
}

fn input(text: &str) -> EncodeInput {
    EncodeInput { text: text.to_owned(), ..EncodeInput::default() }
}

fn of(model: &str, texts: &[&str]) -> EncodeRequest {
    EncodeRequest { model: model.to_owned(), inputs: texts.iter().map(|text| input(text)).collect(), ..EncodeRequest::default() }
}

/// The fields that a refusal names.
fn fields(status: &tonic::Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn tokenizers_are_listed_by_name() {
    let mut running = start().await;
    let listed = running.client.list_tokenizers(ListTokenizersRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.default_tokenizer, "byte-level");
    let names: Vec<&str> = listed.tokenizers.iter().map(|tokenizer| tokenizer.name.as_str()).collect();
    assert_eq!(names, ["byte-level", "llama", "word-piece"]);
    let got = running
        .client
        .get_tokenizer(GetTokenizerRequest { model: "word-piece".into(), ..GetTokenizerRequest::default() })
        .await
        .unwrap()
        .into_inner()
        .tokenizer
        .unwrap();
    assert_eq!(got, listed.tokenizers[2]);
    assert_eq!((got.version.as_str(), got.algorithm(), got.vocabulary_size), ("3", TokenizerAlgorithm::WordPiece, 18));
    assert_eq!((got.model_max_length, got.special_tokens[3].content.as_str()), (Some(77), "[SEP]"));
    assert_eq!(got.sha256, hex::encode(Sha256::digest(samples::word_piece())));
    running.stop().await;
}

#[tokio::test]
async fn an_unknown_name_is_told_the_known_ones() {
    let mut running = start().await;
    let status = running.client.encode(of("gpt", &["a"])).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no tokenizer 'gpt' is loaded; there are: byte-level, llama, word-piece"));
    running.stop().await;
}

#[tokio::test]
async fn text_goes_there_and_back() {
    let mut running = start().await;
    let long = samples::TEXTS.concat().repeat(200);
    for texts in [vec!["hello", "日本 😀"], vec![long.as_str(), "b"]] {
        let encoded = running.client.encode(of("", &texts)).await.unwrap().into_inner();
        assert_eq!((encoded.model.as_str(), encoded.model_version.as_str()), ("byte-level", "3"));
        let sequences: Vec<TokenIds> = encoded.encodings.iter().map(|encoding| TokenIds { ids: encoding.ids.clone() }).collect();
        let counts = CountTokensRequest { inputs: texts.iter().map(|text| input(text)).collect(), ..CountTokensRequest::default() };
        let counted = running.client.count_tokens(counts).await.unwrap().into_inner().counts;
        assert!(sequences.iter().map(|sequence| sequence.ids.len() as u32).eq(counted));
        let decoded = running.client.decode(DecodeRequest { sequences, ..DecodeRequest::default() }).await.unwrap().into_inner();
        assert_eq!(decoded.texts, texts);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_vocabulary_comes_in_order_without_gaps() {
    let mut running = start().await;
    let parts = running
        .client
        .get_vocabulary(GetVocabularyRequest { model: "byte-level".into(), ..GetVocabularyRequest::default() })
        .await
        .unwrap()
        .into_inner();
    let entries: Vec<VocabularyEntry> = parts.map(|part| part.unwrap().entries).collect::<Vec<_>>().await.concat();
    assert!(entries.iter().map(|entry| entry.id).eq(0..267));
    assert_eq!(entries[0x0A].bytes, b"\n");
    assert_eq!((entries[265].bytes.as_slice(), entries[265].special), (b"<|endoftext|>".as_slice(), true));
    assert_eq!((entries[266].bytes.as_slice(), entries[266].special), ("⟨word⟩".as_bytes(), false));
    running.stop().await;
}

#[tokio::test]
async fn faults_of_encode_name_their_fields() {
    let config = Config { max_text_bytes: 8, max_inputs: 2, ..defaults().tokenization };
    let mut running = start_with(config, &[("byte-level", samples::byte_level())]).await;
    let mut faults = async |request: EncodeRequest| fields(&running.client.encode(request).await.unwrap_err());
    assert_eq!(faults(of("", &[])).await, ["inputs"]);
    assert_eq!(faults(of("", &["a", "b", "c"])).await, ["inputs"]);
    let pair = EncodeInput { text: "a".into(), pair: Some("123456789".into()), ..EncodeInput::default() };
    assert_eq!(faults(EncodeRequest { inputs: vec![input("123456789"), pair], ..of("", &[]) }).await, ["inputs[0].text", "inputs[1].pair"]);
    let truncation = Some(Truncation { side: 9, ..Truncation::default() });
    let padding = Some(Padding { multiple_of: 4097, pad_id: Some(267), ..Padding::default() });
    let all = faults(EncodeRequest { special_tokens: 4, truncation, padding, ..of("", &["a"]) }).await;
    assert_eq!(all, ["special_tokens", "truncation.max_tokens", "truncation.side", "padding.multiple_of", "padding.pad_id"]);
    assert_eq!(faults(EncodeRequest { padding: Some(Padding::default()), ..of("", &["a"]) }).await, ["padding.pad_id"]);
    running.stop().await;
}

#[tokio::test]
async fn special_tokens_in_text_follow_the_policy() {
    let mut running = start().await;
    let texts = ["ok", "日<|endoftext|>"];
    let with = |policy: SpecialTokenPolicy| EncodeRequest { special_tokens: policy.into(), ..of("byte-level", &texts) };
    let plain = running.client.encode(with(SpecialTokenPolicy::Unspecified)).await.unwrap().into_inner();
    assert!(!plain.encodings[1].ids.contains(&265));
    let allowed = running.client.encode(with(SpecialTokenPolicy::Allow)).await.unwrap().into_inner();
    assert!(allowed.encodings[1].ids.ends_with(&[265]));
    let refused = running.client.encode(with(SpecialTokenPolicy::Refuse)).await.unwrap_err();
    assert_eq!(fields(&refused), ["inputs[1].text"]);
    assert!(refused.message().contains("\"<|endoftext|>\" at byte 3"), "{}", refused.message());

    // One special token may be spelled where the others may not.
    let one = |token: &str| EncodeRequest { allowed_special_token: token.to_owned(), ..with(SpecialTokenPolicy::AsText) };
    let allowing = running.client.encode(one("<|endoftext|>")).await.unwrap().into_inner();
    assert_eq!(allowing.encodings[1].ids, allowed.encodings[1].ids);
    assert_eq!(fields(&running.client.encode(one("ok")).await.unwrap_err()), ["allowed_special_token"]);
    let contradiction = EncodeRequest { return_offsets: true, special_tokens: SpecialTokenPolicy::Refuse.into(), ..one("<|endoftext|>") };
    assert_eq!(fields(&running.client.encode(contradiction).await.unwrap_err()), ["allowed_special_token"; 2]);
    running.stop().await;
}

#[tokio::test]
async fn faults_of_decode_name_their_fields() {
    let config = Config { max_ids: 4, ..defaults().tokenization };
    let mut running = start_with(config, &[("byte-level", samples::byte_level())]).await;
    let mut faults = async |sequences: &[&[u32]]| {
        let sequences = sequences.iter().map(|ids| TokenIds { ids: ids.to_vec() }).collect();
        fields(&running.client.decode(DecodeRequest { sequences, ..DecodeRequest::default() }).await.unwrap_err())
    };
    assert_eq!(faults(&[]).await, ["sequences"]);
    assert_eq!(faults(&[&[1, 2], &[3, 267, u32::MAX]]).await, ["sequences"]);
    assert_eq!(faults(&[&[1], &[3, 267, u32::MAX]]).await, ["sequences[1].ids[1]", "sequences[1].ids[2]"]);
    running.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_the_requests_fault() {
    let config = Config { max_tokens: 64, ..defaults().tokenization };
    let mut running = start_with(config, &[("byte-level", samples::byte_level())]).await;
    let padding = Some(Padding { multiple_of: 64, pad_id: Some(0), ..Padding::default() });
    assert!(running.client.encode(EncodeRequest { padding, ..of("", &["a"]) }).await.is_ok());
    let status = running.client.encode(EncodeRequest { padding, ..of("", &["a", "b"]) }).await.unwrap_err();
    assert_eq!(fields(&status), ["padding.multiple_of"]);
    let filled = Some(Padding { min_tokens: 65, pad_id: Some(0), ..Padding::default() });
    assert_eq!(fields(&running.client.encode(EncodeRequest { padding: filled, ..of("", &["a"]) }).await.unwrap_err()), ["padding.min_tokens"]);
    // Two bytes of a request become thirteen of its answer.
    let sequences = vec![TokenIds { ids: vec![265; 3 << 20] }; 2];
    let config = Config { max_ids: 1 << 24, ..defaults().tokenization };
    running.stop().await;
    let mut running = start_with(config, &[("byte-level", samples::byte_level())]).await;
    let status = running.client.decode(DecodeRequest { sequences, ..DecodeRequest::default() }).await.unwrap_err();
    assert_eq!(fields(&status), ["sequences"]);
    running.stop().await;
}

#[tokio::test]
async fn long_texts_come_in_pieces_and_say_what_was_added() {
    let mut running = start().await;
    let truncation = Some(Truncation { max_tokens: 4, return_overflow: true, stride: 1, ..Truncation::default() });
    let request = EncodeRequest { truncation, return_special_tokens_mask: true, ..of("word-piece", &["hellos world and"]) };
    let encoded = running.client.encode(request).await.unwrap().into_inner().encodings.remove(0);
    assert_eq!((encoded.ids.as_slice(), encoded.special_tokens_mask.as_slice()), ([2, 4, 5, 3].as_slice(), [1, 0, 0, 1].as_slice()));
    assert_eq!(encoded.overflow.iter().map(|piece| piece.ids.as_slice()).collect::<Vec<_>>(), [[2, 5, 6, 3], [2, 6, 7, 3], [2, 7, 9, 3]]);
    let pair = EncodeInput { text: "hello".into(), pair: Some("and and and".into()), ..EncodeInput::default() };
    let refused = EncodeRequest { inputs: vec![pair.clone()], truncation, ..of("word-piece", &[]) };
    assert_eq!(fields(&running.client.encode(refused).await.unwrap_err()), ["truncation.strategy"]);
    let second = Some(Truncation { max_tokens: 6, strategy: TruncationStrategy::OnlySecond.into(), ..Truncation::default() });
    let cut = EncodeRequest { inputs: vec![pair], truncation: second, ..of("word-piece", &[]) };
    assert_eq!(running.client.encode(cut).await.unwrap().into_inner().encodings[0].ids, [2, 4, 3, 9, 9, 3]);
    let idle = Some(Truncation { max_tokens: 4, stride: 4, ..Truncation::default() });
    let faults = running.client.encode(EncodeRequest { truncation: idle, ..of("word-piece", &["a"]) }).await.unwrap_err();
    assert_eq!(fields(&faults), ["truncation.stride", "truncation.stride"]);
    running.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_go_there_and_back() {
    let mut running = start().await;
    let bytes = EncodeInput { raw_text: Some(b"a\xF0\x9F\x98\xFFb".to_vec()), ..EncodeInput::default() };
    let both = |text: &str| [bytes.clone(), EncodeInput { text: text.to_owned(), ..EncodeInput::default() }].to_vec();
    let encodings = running.client.encode(EncodeRequest { inputs: both("a\u{fffd}\u{fffd}b"), ..of("", &[]) }).await.unwrap().into_inner().encodings;
    assert_eq!(encodings[0], encodings[1]);
    let doubled = EncodeInput { text: "a".into(), ..bytes };
    assert_eq!(fields(&running.client.encode(EncodeRequest { inputs: vec![doubled], ..of("", &[]) }).await.unwrap_err()), ["inputs[0].raw_text"]);
    let sequences = vec![TokenIds { ids: vec![0x61, 0xF0, 0x9F] }];
    let decode = DecodeRequest { sequences, return_bytes: true, ..DecodeRequest::default() };
    let decoded = running.client.decode(decode).await.unwrap().into_inner();
    assert_eq!((decoded.texts.len(), decoded.raw_texts), (0, vec![b"a\xF0\x9F".to_vec()]));
    running.stop().await;
}

#[tokio::test]
async fn a_stream_of_requests_is_answered_in_order() {
    let mut running = start().await;
    let long = "hello ".repeat(4000);
    // Long ones go to a thread of their own and take longer than those behind them.
    let texts: Vec<String> = (0..40).map(|index| if index % 5 == 0 { long.clone() } else { "a".repeat(index) }).collect();
    let request = |(index, text): (usize, &String)| EncodeStreamRequest { request: Some(of(if index == 0 { "byte-level" } else { "" }, &[text])) };
    let requests: Vec<EncodeStreamRequest> = texts.iter().enumerate().map(request).collect();
    let answers = running.client.encode_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<usize> = answers.map(|answer| answer.unwrap().response.unwrap().encodings[0].ids.len()).collect().await;
    assert_eq!(answers, {
        let mut alone = Vec::new();
        for text in &texts {
            alone.push(running.client.encode(of("byte-level", &[text])).await.unwrap().into_inner().encodings[0].ids.len());
        }
        alone
    });
    let faulty = [Some(of("", &["a"])), Some(of("", &[])), Some(of("", &["b"])), None].map(|request| EncodeStreamRequest { request });
    let answers = running.client.encode_stream(tokio_stream::iter(faulty)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert_eq!((answers.len(), fields(answers[1].as_ref().unwrap_err())), (2, vec!["inputs".to_owned()]));
    running.stop().await;
}

#[tokio::test]
async fn texts_are_cut_into_chunks_that_fit() {
    let mut running = start().await;
    let text = "hello. hello hello! 日本";
    let request = ChunkRequest {
        model: "byte-level".into(),
        texts: vec![text.into(), String::new()],
        max_tokens: 8,
        boundary: ChunkBoundary::Sentence.into(),
        ..ChunkRequest::default()
    };
    let answer = running.client.chunk(request.clone()).await.unwrap().into_inner();
    let parts: Vec<(&str, u32)> = answer.texts[0].chunks.iter().map(|chunk| (chunk.text.as_str(), chunk.tokens)).collect();
    assert_eq!(parts, [("hello. hello hello! ", 6), ("日本", 6)]);
    assert_eq!(answer.texts[0].chunks[1].char_span, Some(Span { start: 20, end: 22 }));
    assert_eq!(answer.texts[0].chunks[1].byte_span, Some(Span { start: 20, end: 26 }));
    assert!(answer.texts[1].chunks.is_empty());
    let bare = running.client.chunk(ChunkRequest { return_texts: Some(false), ..request.clone() }).await.unwrap().into_inner();
    assert!(bare.texts[0].chunks.iter().all(|chunk| chunk.text.is_empty()));
    let faulty = ChunkRequest { texts: vec![], max_tokens: 0, overlap_tokens: 1, boundary: 9, ..request.clone() };
    assert_eq!(fields(&running.client.chunk(faulty).await.unwrap_err()), ["texts", "max_tokens", "overlap_tokens", "boundary"]);
    assert_eq!(fields(&running.client.chunk(ChunkRequest { max_tokens: 2, ..request }).await.unwrap_err()), ["max_tokens"]);
    running.stop().await;
}

const CHAT: &str = r#"{"eos_token": "<|endoftext|>", "chat_template":
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}{% if refused %}{{ raise_exception(refused) }}{% endif %}"}"#;

async fn start_chat() -> Running {
    let settings = defaults();
    let models = tempfile::tempdir().unwrap();
    folder(models.path(), "chat", &[("tokenizer.json", &samples::byte_level()), ("tokenizer_config.json", CHAT)]);
    folder(models.path(), "plain", &[("tokenizer.json", &samples::byte_level())]);
    let repository = Repository::open(&ModelsConfig::local(models.path().to_owned())).unwrap();
    start_over(settings.tokenization, models, &repository).await
}

fn say(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned(), ..ChatMessage::default() }
}

#[tokio::test]
async fn a_conversation_is_written_and_encoded_by_its_template() {
    let mut running = start_chat().await;
    let request = ApplyChatTemplateRequest {
        messages: vec![say("user", "hello"), say("assistant", "日"), say("user", "a<|endoftext|>b")],
        add_generation_prompt: true,
        return_encoding: true,
        ..ApplyChatTemplateRequest::default()
    };
    let answer = running.client.apply_chat_template(request.clone()).await.unwrap().into_inner();
    let text = "user: hello<|endoftext|>\nassistant: 日<|endoftext|>\nuser: a<|endoftext|>b<|endoftext|>\nassistant: ";
    assert_eq!((answer.text.as_str(), answer.template.as_str(), answer.model.as_str()), (text, "default", "chat"));
    assert_eq!(answer.generation_spans, [Span { start: 36, end: 39 }]);
    // What the user spells is text: of four end tokens in the text, three are the template's.
    let ids = answer.encoding.unwrap().ids;
    assert_eq!(ids.iter().filter(|id| **id == 265).count(), 3);
    let sequences = vec![TokenIds { ids }];
    let decoded = running.client.decode(DecodeRequest { sequences, skip_special_tokens: Some(false), ..DecodeRequest::default() }).await.unwrap();
    assert_eq!(decoded.into_inner().texts, [text]);
    let allowed = ApplyChatTemplateRequest { special_tokens: SpecialTokenPolicy::Allow.into(), ..request.clone() };
    let allowed = running.client.apply_chat_template(allowed).await.unwrap().into_inner();
    assert_eq!(allowed.text, text);
    assert_eq!(allowed.encoding.unwrap().ids.iter().filter(|id| **id == 265).count(), 4);
    let refused = ApplyChatTemplateRequest { special_tokens: SpecialTokenPolicy::Refuse.into(), ..request.clone() };
    assert_eq!(fields(&running.client.apply_chat_template(refused).await.unwrap_err()), ["messages[2]"]);
    let left = Some(Truncation { max_tokens: 3, side: TruncationSide::Left.into(), ..Truncation::default() });
    let cut = running.client.apply_chat_template(ApplyChatTemplateRequest { truncation: left, ..request }).await.unwrap().into_inner();
    let cut = cut.encoding.unwrap();
    assert_eq!((cut.ids.len(), cut.ids.len() + cut.truncated_tokens as usize), (3, decoded_length(text)));
    running.stop().await;
}

/// How many tokens the byte-level sample has for a text of the above, of which one end token is text.
fn decoded_length(text: &str) -> usize {
    let tokenizer = samples::load(&samples::byte_level());
    let special = tokenizer.encode(text, true, false).unwrap().ids.len();
    special - 1 + tokenizer.encode("<|endoftext|>", false, false).unwrap().ids.len()
}

#[tokio::test]
async fn faults_of_a_conversation_name_their_fields() {
    let mut running = start_chat().await;
    let request = ApplyChatTemplateRequest { messages: vec![say("user", "x")], ..ApplyChatTemplateRequest::default() };
    let mut faults = async |request: ApplyChatTemplateRequest| fields(&running.client.apply_chat_template(request).await.unwrap_err());
    let broken = ApplyChatTemplateRequest {
        messages: vec![
            ChatMessage { extra: "[1]".into(), ..ChatMessage::default() },
            ChatMessage {
                extra: r#"{"role": "x"}"#.into(),
                tool_calls: vec![ChatToolCall { arguments: "{".into(), ..ChatToolCall::default() }],
                ..say("a", "")
            },
        ],
        tools: vec!["no".into()],
        variables: r#"{"messages": []}"#.into(),
        add_generation_prompt: true,
        continue_final_message: true,
        ..request.clone()
    };
    let named = faults(broken).await;
    let expected = [
        "continue_final_message",
        "messages[0].role",
        "messages[0].extra",
        "messages[1].tool_calls[0].name",
        "messages[1].tool_calls[0].arguments",
        "messages[1].extra",
        "tools[0]",
        "variables",
    ];
    assert_eq!(named, expected);
    assert_eq!(faults(ApplyChatTemplateRequest { template: "x".into(), ..request.clone() }).await, ["template"]);
    assert_eq!(faults(ApplyChatTemplateRequest { messages: vec![], ..request.clone() }).await, ["messages"]);
    let raised = ApplyChatTemplateRequest { variables: r#"{"refused": "no such roles"}"#.into(), ..request.clone() };
    let raised = running.client.apply_chat_template(raised).await.unwrap_err();
    assert!(raised.code() == Code::InvalidArgument && raised.message().contains("no such roles"), "{raised}");
    let none = running.client.apply_chat_template(ApplyChatTemplateRequest { model: "plain".into(), ..request }).await.unwrap_err();
    assert_eq!(none.code(), Code::FailedPrecondition);
    running.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_pending_bytes_still_run_alone() {
    let config = Config { max_pending_bytes: 1024, inline_bytes: 0, threads: 1, ..defaults().tokenization };
    let mut running = start_with(config, &[("byte-level", samples::byte_level())]).await;
    let text = "hello ".repeat(1000);
    assert_eq!(running.client.encode(of("", &[&text])).await.unwrap().into_inner().encodings.len(), 1);
    running.stop().await;
}

fn message(ids: &[u32]) -> DecodeStreamRequest {
    DecodeStreamRequest { ids: ids.to_vec(), ..DecodeStreamRequest::default() }
}

async fn stream(client: &mut Client, messages: Vec<DecodeStreamRequest>) -> Vec<Result<DecodeStreamResponse, tonic::Status>> {
    client.decode_stream(tokio_stream::iter(messages)).await.unwrap().into_inner().collect().await
}

#[tokio::test]
async fn a_stream_answers_each_message_and_then_the_rest() {
    let mut running = start().await;
    let first = DecodeStreamRequest {
        model: "byte-level".into(),
        skip_special_tokens: Some(false),
        ids: vec![0x61, 0xF0, 0x9F],
        ..DecodeStreamRequest::default()
    };
    let answers = stream(&mut running.client, vec![first, message(&[0x98, 0x80]), message(&[]), message(&[265, 0xE2])]).await;
    let answers: Vec<(String, bool)> = answers.into_iter().map(|answer| answer.map(|answer| (answer.text, answer.finished)).unwrap()).collect();
    let expected = [("a", false), ("😀", false), ("", false), ("<|endoftext|>", false), ("\u{fffd}", true)];
    assert_eq!(answers, expected.map(|(text, finished)| (text.to_owned(), finished)));
    let nothing = stream(&mut running.client, vec![]).await;
    assert_eq!(nothing.len(), 1);
    assert!(nothing[0].as_ref().is_ok_and(|answer| answer.finished && answer.text.is_empty()));
    running.stop().await;
}

#[tokio::test]
async fn a_stream_ends_at_its_first_fault() {
    let mut running = start().await;
    let mut fault = async |second: DecodeStreamRequest| {
        let mut answers = stream(&mut running.client, vec![message(&[0x61]), second, message(&[0x62])]).await;
        assert_eq!(answers.len(), 2);
        fields(&answers.remove(1).unwrap_err())
    };
    assert_eq!(fault(message(&[1, 267])).await, ["ids[1]"]);
    assert_eq!(fault(DecodeStreamRequest { model: "llama".into(), ..message(&[1]) }).await, ["model"]);
    assert_eq!(fault(DecodeStreamRequest { skip_special_tokens: Some(true), ..message(&[1]) }).await, ["skip_special_tokens"]);
    let mut unknown = stream(&mut running.client, vec![DecodeStreamRequest { model: "x".into(), ..message(&[]) }]).await;
    assert_eq!(unknown.remove(0).unwrap_err().code(), Code::NotFound);
    running.stop().await;
}

#[tokio::test]
async fn without_tokenizers_nothing_is_found() {
    let mut running = start_with(defaults().tokenization, &[]).await;
    let status = running.client.encode(of("", &["a"])).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no tokenizer is loaded"));
    running.stop().await;
}

#[tokio::test]
async fn setups_that_cannot_work_are_refused() {
    let settings = defaults();
    let server = Server::bind(&quintet_serving::server::ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..settings.server }).await.unwrap();
    let refused = |config: &Config, repository: &Repository| {
        let error = quintet_serving::command::BuildError::from(build(config, &server, repository).unwrap_err());
        assert!(error.is_setup, "{}", error.message);
        error.message
    };
    let (_models, empty) = repository(&[], false);
    assert!(refused(&settings.tokenization, &empty).ends_with("has no model folder with a tokenizer.json"));
    let (_models, one) = repository(&[("byte-level", samples::byte_level())], false);
    let config = Config { default_model: "other".into(), ..settings.tokenization.clone() };
    assert!(refused(&config, &one).contains("'other'"));
    let (_models, broken) = repository(&[("broken", "{}".to_owned())], false);
    assert!(refused(&settings.tokenization, &broken).contains("tokenizer.json"));
}
