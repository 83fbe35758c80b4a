//! What a request for text can ask for beside a prompt: several texts, searches, guides, log-probabilities, conversations.

use std::collections::BTreeSet;

use quintet_proto::{
    text::v1::{
        BeamSearch, BeamStopping, ChatRequest, ChatStreamRequest, Choices, FinishReason, GenerateRequest, GenerateStreamRequest, Guide, Sampling,
        Stopping, guide::Guide as Form, text_service_client::TextServiceClient,
    },
    tokenization::v1::ChatMessage,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::harness::{Process, root};

/// The fields that were refused, each with the reason.
fn fields(refused: &Status) -> Vec<(String, String)> {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let details = refused.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

async fn client(process: &Process) -> TextServiceClient<Channel> {
    TextServiceClient::new(process.channel().await)
}

fn request(prompt: &str, tokens: u32) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.to_owned(),
        sampling: Some(Sampling { seed: Some(11), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(tokens), ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

fn guided(form: Form, tokens: u32) -> GenerateRequest {
    GenerateRequest { guide: Some(Guide { guide: Some(form) }), ..request("And the king said", tokens) }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_texts_come_from_streams_of_one_seed_and_share_their_prompt() {
    let process = Process::up(&[]);
    let mut client = client(&process).await;
    let long = "And it came to pass in those days, that the king sent messengers unto all the cities of the land, and they gathered themselves together before the gate of the city, every man";
    let one = client.generate(request(long, 20)).await.unwrap().into_inner();
    let three = client.generate(GenerateRequest { n: Some(3), ..request(long, 20) }).await.unwrap().into_inner();
    assert_eq!(three.text, one.text, "the first of several is the only one of one");
    assert_eq!(three.alternatives.len(), 2);
    let texts: BTreeSet<&str> = three.alternatives.iter().map(|text| text.text.as_str()).chain([three.text.as_str()]).collect();
    assert_eq!(texts.len(), 3, "each is another");
    let usage = three.usage.unwrap();
    assert_eq!(usage.cached_prompt_tokens, 36, "the row holds the first request's prompt still; two tokens are run again");
    assert!(usage.completion_tokens > 40 && three.timings.unwrap().decode_seconds > 0.0);

    // The best of six by log-probability are among the six.
    let ask = |n, best_of| GenerateRequest { n: Some(n), best_of, logprobs: true, ..request(long, 20) };
    let mean =
        |logprobs: &[quintet_proto::text::v1::TokenLogprob]| logprobs.iter().map(|token| token.logprob.unwrap()).sum::<f32>() / logprobs.len() as f32;
    let six = client.generate(ask(6, None)).await.unwrap().into_inner();
    let mut means = vec![(mean(&six.logprobs), six.text.clone())];
    means.extend(six.alternatives.iter().map(|text| (mean(&text.logprobs), text.text.clone())));
    means.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = client.generate(ask(2, Some(6))).await.unwrap().into_inner();
    assert_eq!((&best.text, &best.alternatives[0].text), (&means[0].1, &means[1].1));

    // In a stream the pieces say whose they are.
    let asked = GenerateRequest { n: Some(3), ..request(long, 20) };
    let mut stream = client.generate_stream(GenerateStreamRequest { request: Some(asked) }).await.unwrap().into_inner();
    let (mut texts, mut ends, mut usages) = (vec![String::new(); 3], 0, 0);
    while let Some(piece) = stream.message().await.unwrap() {
        texts[piece.index as usize] += &piece.text;
        ends += usize::from(piece.finish_reason() != FinishReason::Unspecified);
        usages += usize::from(piece.usage.is_some());
    }
    assert_eq!((ends, usages), (3, 1));
    assert_eq!(texts, [three.text, three.alternatives[0].text.clone(), three.alternatives[1].text.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guided_text_is_what_it_must_be() {
    let process = Process::up(&[]);
    let mut client = client(&process).await;
    let schema = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["name", "age"], "additionalProperties": false}"#;
    for seed in 0..4 {
        let mut asked = guided(Form::JsonSchema(schema.to_owned()), 480);
        asked.sampling.as_mut().unwrap().seed = Some(seed);
        let answer = client.generate(asked.clone()).await.unwrap().into_inner();
        assert_eq!(answer.finish_reason(), FinishReason::Eos, "{}", answer.text);
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert!(value["name"].is_string() && (1..=99).contains(&value["age"].as_u64().unwrap()), "{}", answer.text);
        assert_eq!(client.generate(asked).await.unwrap().into_inner().text, answer.text, "the same seed, the same text");
    }
    let date = client.generate(guided(Form::Regex(r"\d{4}-\d{2}-\d{2}".to_owned()), 40)).await.unwrap().into_inner().text;
    assert!(date.len() == 10 && date.split('-').map(str::len).eq([4, 2, 2]), "{date}");
    let choices = ["yes", "no", "perhaps"].map(str::to_owned).to_vec();
    for n in [1, 5] {
        let asked = GenerateRequest { n: Some(n), ..guided(Form::Choices(Choices { texts: choices.clone() }), 20) };
        let answer = client.generate(asked).await.unwrap().into_inner();
        let texts = answer.alternatives.iter().map(|text| &text.text).chain([&answer.text]);
        assert!(texts.clone().all(|text| choices.contains(text)), "{:?}", texts.collect::<Vec<_>>());
    }
    let lark = "start: \"(\" WORD (\",\" WORD)* \")\"\nWORD: /[a-c]{2}/";
    let list = client.generate(guided(Form::Grammar(lark.to_owned()), 60)).await.unwrap().into_inner();
    assert!(list.text.starts_with('(') && list.text.chars().all(|character| "(),abc".contains(character)), "{}", list.text);
    // The encoder-decoder too.
    let restored = GenerateRequest { model: "restore-case".to_owned(), ..guided(Form::Regex("[A-Z][a-z]{2,5}".to_owned()), 20) };
    let word = client.generate(restored).await.unwrap().into_inner().text;
    assert!(word.chars().next().unwrap().is_uppercase() && (3..=6).contains(&word.len()), "{word}");

    for (form, field, reason) in [
        (Form::JsonSchema("{".to_owned()), "guide.json_schema", "not valid"),
        (Form::JsonSchema(format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))), "guide.json_schema", "schema"),
        (Form::Regex("(".to_owned()), "guide.regex", "not valid"),
        (Form::Regex("a".repeat(5000)), "guide.regex", "at most 4096"),
        (Form::Grammar("start: nowhere".to_owned()), "guide.grammar", "grammar"),
        (Form::Choices(Choices { texts: vec!["x".repeat(1 << 20)] }), "guide.choices", "at most 65536"),
    ] {
        let refused = client.generate(guided(form, 20)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let fields = fields(&refused);
        assert!(fields.iter().any(|(name, description)| name == field && description.contains(reason)), "{field}: {fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beam_search_finds_likelier_texts_than_greedy_decoding() {
    let process = Process::up(&[]);
    let mut client = client(&process).await;
    let prompt = "In the beginning God";
    let plain = |tokens| GenerateRequest { sampling: None, logprobs: true, ..request(prompt, tokens) };
    let sum = |logprobs: &[quintet_proto::text::v1::TokenLogprob]| logprobs.iter().map(|token| f64::from(token.logprob.unwrap())).sum::<f64>();
    let search =
        |beams, early_stopping: BeamStopping| Some(BeamSearch { num_beams: beams, length_penalty: Some(0.0), early_stopping: early_stopping.into() });
    let mut greedy = plain(12);
    greedy.sampling = Some(Sampling { temperature: Some(0.0), ..Sampling::default() });
    let greedy = client.generate(greedy).await.unwrap().into_inner();
    let mut stops = plain(12);
    stops.stopping.as_mut().unwrap().ignore_eos = true;
    let asked = GenerateRequest { beam_search: search(4, BeamStopping::Never), n: Some(3), ..stops.clone() };
    let found = client.generate(asked.clone()).await.unwrap().into_inner();
    assert!(sum(&found.logprobs) >= sum(&greedy.logprobs) - 1e-4, "{} for {}", sum(&found.logprobs), sum(&greedy.logprobs));
    assert_eq!(found.alternatives.len(), 2);
    let sums: Vec<f64> = found.alternatives.iter().map(|text| sum(&text.logprobs)).collect();
    assert!(sum(&found.logprobs) >= sums[0] && sums[0] >= sums[1], "the best first: {sums:?}");
    assert!(found.text != found.alternatives[0].text);
    assert_eq!(client.generate(asked.clone()).await.unwrap().into_inner().text, found.text, "a search draws nothing");
    // Beside others the same, bit for bit.
    let mut others = JoinSet::new();
    for seed in 0..6 {
        let (mut client, mut asked) = (client.clone(), request("And", 60));
        asked.sampling = Some(Sampling { seed: Some(seed), ..Sampling::default() });
        others.spawn(async move { client.generate(asked).await.unwrap() });
    }
    let beside = client.generate(asked).await.unwrap().into_inner();
    let bits = |logprobs: &[quintet_proto::text::v1::TokenLogprob]| logprobs.iter().map(|token| token.logprob.unwrap().to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&beside.logprobs), bits(&found.logprobs));
    others.join_all().await;
    let refused = GenerateRequest { n: Some(5), beam_search: search(4, BeamStopping::First), ..request(prompt, 5) };
    let refused = client.generate(refused).await.unwrap_err();
    assert!(fields(&refused).iter().any(|(field, _)| field == "n"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn biases_penalties_and_the_least_number_of_tokens_hold() {
    let process = Process::up(&[]);
    let mut client = client(&process).await;
    let mut certain = GenerateRequest { logprobs: true, top_logprobs: 3, ..request("And", 6) };
    certain.sampling.as_mut().unwrap().logit_bias.insert(500, 100.0);
    let answer = client.generate(certain).await.unwrap().into_inner();
    assert!(answer.logprobs.iter().all(|token| token.id == 500 && token.top.len() == 3), "{:?}", answer.logprobs);
    // Log-probabilities are the model's own, not those of the bias; and the bytes add up to the text.
    assert!(answer.logprobs.iter().all(|token| token.logprob.unwrap() < -0.5 && token.top[0].logprob >= token.logprob));
    let bytes: Vec<u8> = answer.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap().trim_start(), answer.text.trim_start());

    let mut no_twice = GenerateRequest { logprobs: true, ..request("And", 60) };
    no_twice.sampling = Some(Sampling { temperature: Some(0.0), no_repeat_ngram_size: Some(2), ..Sampling::default() });
    let ids: Vec<u32> = client.generate(no_twice).await.unwrap().into_inner().logprobs.iter().map(|token| token.id).collect();
    let pairs: BTreeSet<&[u32]> = ids.windows(2).collect();
    assert_eq!(pairs.len(), ids.len() - 1, "no pair of tokens comes twice: {ids:?}");

    // The end-of-text token is certain, and may not come before its time.
    let mut late = request("And", 20);
    late.sampling.as_mut().unwrap().logit_bias.insert(0, 100.0);
    let at_once = client.generate(late.clone()).await.unwrap().into_inner();
    assert_eq!((at_once.finish_reason(), at_once.usage.unwrap().completion_tokens), (FinishReason::Eos, 1));
    late.stopping.as_mut().unwrap().min_new_tokens = 9;
    assert_eq!(client.generate(late).await.unwrap().into_inner().usage.unwrap().completion_tokens, 10);

    let mut wrong = GenerateRequest { n: Some(10_000), top_logprobs: 21, prompt_ids: vec![1], ..request("And", 5) };
    wrong.sampling.as_mut().unwrap().logit_bias.insert(1 << 30, 1.0);
    wrong.stopping.as_mut().unwrap().stop = vec!["x".repeat(1 << 20)];
    wrong.stopping.as_mut().unwrap().min_new_tokens = 6;
    let refused = client.generate(wrong).await.unwrap_err();
    let names: BTreeSet<String> = fields(&refused).into_iter().map(|(field, _)| field).collect();
    for field in ["n", "top_logprobs", "prompt_ids", "sampling.logit_bias[1073741824]", "stopping.stop[0]", "stopping.min_new_tokens"] {
        assert!(names.contains(field), "{field}: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_written_by_the_models_template() {
    // A folder as onnxruntime-genai writes it, with a template beside it.
    let models = tempfile::tempdir().unwrap();
    for name in ["talker", "taleteller"] {
        std::fs::create_dir_all(models.path().join(name).join("1")).unwrap();
        for entry in std::fs::read_dir(root().join("tests/models/decoders/llama-genai/1")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), models.path().join(name).join("1").join(entry.file_name())).unwrap();
        }
    }
    let template =
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    std::fs::write(models.path().join("talker/1/chat_template.jinja"), template).unwrap();
    let process = Process::up(&["--keep-going", "--set", &format!("models.path={}", models.path().display())]);
    let mut client = client(&process).await;
    let messages = vec![ChatMessage { role: "user".to_owned(), content: "Hi".to_owned(), ..ChatMessage::default() }];
    let request = |prompt: &str, tokens| GenerateRequest { model: "talker".to_owned(), ..request(prompt, tokens) };
    let generate = Some(GenerateRequest { prompt: String::new(), ..request("", 12) });
    let asked = ChatRequest { generate, messages, ..ChatRequest::default() };
    let answer = client.chat(asked.clone()).await.unwrap().into_inner().generated.unwrap();
    let written = client.generate(request("user: Hi\nassistant:", 12)).await.unwrap().into_inner();
    assert_eq!((&answer.text, answer.usage.unwrap().prompt_tokens), (&written.text, "user: Hi\nassistant:".len() as u32));
    let mut stream = client.chat_stream(ChatStreamRequest { request: Some(asked.clone()) }).await.unwrap().into_inner();
    let mut text = String::new();
    while let Some(piece) = stream.message().await.unwrap() {
        text += &piece.generated.unwrap().text;
    }
    assert_eq!(text, answer.text);
    let refused = client.chat(ChatRequest { generate: Some(request("a prompt", 5)), ..asked.clone() }).await.unwrap_err();
    assert!(fields(&refused).iter().any(|(field, _)| field == "generate.prompt"), "{refused:?}");
    // Each fault by its path in this request, whoever found it.
    let named = |refused: &Status| fields(refused).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
    let nobody = ChatMessage { content: "Who says so?".to_owned(), ..ChatMessage::default() };
    let refused = client.chat(ChatRequest { messages: vec![nobody], tools: vec!["[]".to_owned()], ..asked.clone() }).await.unwrap_err();
    assert_eq!(named(&refused), ["messages[0].role", "tools[0]"], "{refused:?}");
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
    let refused = client.chat(ChatRequest { template: "rhymed".to_owned(), ..asked.clone() }).await.unwrap_err();
    assert_eq!(named(&refused), ["template"], "{refused:?}");
    let sampling = Some(Sampling { top_p: Some(2.0), ..Sampling::default() });
    let wrong = Some(GenerateRequest { n: Some(0), sampling, ..asked.generate.clone().unwrap() });
    let refused = client.chat(ChatRequest { generate: wrong, ..asked.clone() }).await.unwrap_err();
    assert_eq!(named(&refused).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["generate.n".to_owned(), "generate.sampling.top_p".to_owned()]));
    let long = ChatMessage { role: "user".to_owned(), content: "Hi ".repeat(20_000), ..ChatMessage::default() };
    let refused = client.chat_stream(ChatStreamRequest { request: Some(ChatRequest { messages: vec![long], ..asked.clone() }) }).await.unwrap_err();
    assert_eq!(named(&refused), ["messages"], "{refused:?}");
    // Trying again would not give a model a template.
    let speechless = Some(GenerateRequest { model: "taleteller".to_owned(), ..asked.generate.clone().unwrap() });
    let refused = client.chat(ChatRequest { generate: speechless, ..asked }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
}

/// Where bits may differ, what was generated is known when a conversation goes on.
#[tokio::test(flavor = "multi_thread")]
async fn without_exactness_the_next_turn_finds_the_last_answer() {
    let mut found = Vec::new();
    for exact in ["true", "false"] {
        let process = Process::up(&["--set", &format!("text.exact={exact}")]);
        let mut client = client(&process).await;
        let mut asked = GenerateRequest { prompt: String::new(), prompt_ids: (100..140).collect(), logprobs: true, ..request("", 60) };
        asked.stopping.as_mut().unwrap().ignore_eos = true;
        let answer = client.generate(asked.clone()).await.unwrap().into_inner();
        asked.prompt_ids.extend(answer.logprobs.iter().map(|token| token.id));
        asked.prompt_ids.extend(200..210);
        found.push(client.generate(asked).await.unwrap().into_inner().usage.unwrap().cached_prompt_tokens);
    }
    assert_eq!(found, [40, 99], "the prompt alone, and all that was run");
}
