//! Hostile messages to every rpc: a fuzzer over the contracts.
//!
//! Messages are made from the contracts' descriptors: known fields with values that code tends to get wrong, unknown fields,
//! wrong wire types, broken UTF-8, lengths that lie, and plain garbage. Each is made from a seed that a failure names.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message as _;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    harness::{Process, metric, root, soaks},
    raw::Raw,
};

/// A method, and the message that it takes.
#[derive(Clone)]
struct Method {
    path: String,
    input: String,
}

/// The contracts.
struct Contracts {
    messages: std::collections::HashMap<String, DescriptorProto>,
    methods: Vec<Method>,
}

fn contracts() -> Contracts {
    fn collect(prefix: &str, messages: &[DescriptorProto], all: &mut std::collections::HashMap<String, DescriptorProto>) {
        for message in messages {
            let name = format!("{prefix}.{}", message.name());
            collect(&name, &message.nested_type, all);
            all.insert(name, message.clone());
        }
    }
    let set = FileDescriptorSet::decode(quintet_proto::FILE_DESCRIPTOR_SET).unwrap();
    let (mut messages, mut methods) = (std::collections::HashMap::new(), Vec::new());
    for file in &set.file {
        collect(&format!(".{}", file.package()), &file.message_type, &mut messages);
        for service in &file.service {
            for method in &service.method {
                methods.push(Method {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    input: method.input_type().to_owned(),
                });
            }
        }
    }
    Contracts { messages, methods }
}

/// Names and texts that reach far into the services, or that they must not trip over.
const WORDS: [&str; 22] = [
    "",
    "gpt-english",
    "glyph-gan",
    "glyph-gan/generator",
    "vae-digits",
    "vae-digits/encoder",
    "restore-case",
    "all-minilm-l6-v2",
    "z",
    "x",
    "class",
    "FP32",
    "INT64",
    "BYTES",
    "1",
    "../../etc/passwd",
    "/dev/shm/x",
    "\0",
    "\u{202e}𝔘𝔫𝔦",
    "default",
    "kjv-heldout",
    "<s>",
];

const NUMBERS: [u64; 14] = [0, 1, 2, 5, 64, 255, 4096, 4097, 65_536, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

impl Contracts {
    fn message(&self, name: &str, random: &mut StdRng, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(name) else { return bytes };
        for field in &message.field {
            let repeats = match random.random_range(0..12) {
                0..4 => 0,
                11 if field.label() == prost_types::field_descriptor_proto::Label::Repeated => random.random_range(2..40),
                _ => 1,
            };
            for _ in 0..repeats {
                self.field(field, random, depth, &mut bytes);
            }
        }
        if random.random_bool(0.05) {
            // A field that nobody knows.
            key(&mut bytes, 15_000 + random.random_range(0..9), 2);
            blob(&mut bytes, b"unknown");
        }
        bytes
    }

    fn field(&self, field: &FieldDescriptorProto, random: &mut StdRng, depth: usize, bytes: &mut Vec<u8>) {
        let number = field.number() as u64;
        if random.random_bool(0.01) {
            // Another wire type than the field's.
            key(bytes, number, [0, 1, 2, 5][random.random_range(0..4)]);
            bytes.extend_from_slice(&random.next_u64().to_le_bytes());
            return;
        }
        match field.r#type() {
            Type::Message | Type::Group => {
                if depth < 6 {
                    let inner = self.message(field.type_name(), random, depth + 1);
                    key(bytes, number, 2);
                    blob(bytes, &inner);
                }
            }
            Type::String | Type::Bytes => {
                key(bytes, number, 2);
                match random.random_range(0..20) {
                    0 => blob(bytes, &[0xff, 0xfe, 0x80]),
                    1 => blob(bytes, &vec![b'a'; random.random_range(0..20_000)]),
                    2 => blob(bytes, &(0..random.random_range(0..600)).map(|_| random.random()).collect::<Vec<u8>>()),
                    _ => blob(bytes, WORDS[random.random_range(0..WORDS.len())].as_bytes()),
                }
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                key(bytes, number, 5);
                let values = [0.0, -0.0, 1.0, -1.0, 0.5, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE];
                bytes.extend_from_slice(&values[random.random_range(0..values.len())].to_le_bytes());
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                key(bytes, number, 1);
                let values = [0.0, 1.0, -1.0, 0.05, f64::NAN, f64::NEG_INFINITY, f64::MAX, 1e-300];
                bytes.extend_from_slice(&values[random.random_range(0..values.len())].to_le_bytes());
            }
            _ => {
                key(bytes, number, 0);
                varint(bytes, NUMBERS[random.random_range(0..NUMBERS.len())]);
            }
        }
    }

    /// A message to a method, from a seed.
    fn hostile(&self, method: &Method, seed: u64) -> Bytes {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = self.message(&method.input, &mut random, 0);
        match random.random_range(0..20) {
            0 => bytes.truncate(random.random_range(0..=bytes.len())),
            1 => {
                for _ in 0..8 {
                    let at = random.random_range(0..=bytes.len());
                    bytes.insert(at, random.random());
                }
            }
            2 => bytes = (0..random.random_range(0..2000)).map(|_| random.random()).collect(),
            // A length that lies.
            3 => bytes.extend_from_slice(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            _ => (),
        }
        bytes.into()
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn key(bytes: &mut Vec<u8>, number: u64, wire: u64) {
    varint(bytes, number << 3 | wire);
}

fn blob(bytes: &mut Vec<u8>, content: &[u8]) {
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

/// Calls a method with one to three messages and reads what comes. How it ended.
async fn call(channel: Channel, contracts: &Contracts, method: &Method, seed: u64) -> Status {
    let messages: Vec<Bytes> = (0..=(seed % 3)).map(|index| contracts.hostile(method, seed ^ index << 60)).collect();
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(1 << 28);
    if let Err(error) = client.ready().await {
        panic!("{} with seed {seed}: the server is gone: {error}", method.path);
    }
    let mut request = Request::new(tokio_stream::iter(messages));
    // What a message makes the server do is not to hold up the test; that calls end at their deadline is part of it.
    request.set_timeout(Duration::from_millis(300));
    let answer = async {
        let mut answers = client.streaming(request, method.path.parse().unwrap(), Raw).await?.into_inner();
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok::<_, Status>(())
    };
    let ended = tokio::time::timeout(Duration::from_mins(1), answer).await;
    let ended = ended.unwrap_or_else(|_| panic!("{} with seed {seed} hangs", method.path));
    ended.map_or_else(|status| status, |()| Status::ok(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_survives_hostile_messages() {
    // The embedded models, and one for each rpc that none of them is for.
    let repository = tempfile::tempdir().unwrap();
    for folder in ["deploy/models", "tests/models/encoders"] {
        for model in std::fs::read_dir(root().join(folder)).unwrap().flatten() {
            std::os::unix::fs::symlink(model.path(), repository.path().join(model.file_name())).unwrap();
        }
    }
    let models = format!("models.path={}", repository.path().display());
    let process = Process::up(&["--set", "server.log=error", "--set", &models]);
    let contracts = Arc::new(contracts());
    assert!(contracts.methods.len() > 40);
    let channel = process.channel().await;
    let each = if soaks() { 2_500 } else { 15 };
    let mut resident = Vec::new();
    for round in 0..4u64 {
        let seeds = (0..each).flat_map(|index| contracts.methods.iter().map(move |method| (method.clone(), round << 32 | index)));
        let mut calls = futures_util::stream::iter(seeds)
            .map(|(method, seed)| {
                let (channel, contracts) = (channel.clone(), Arc::clone(&contracts));
                async move {
                    let status = call(channel, &contracts, &method, seed).await;
                    // INTERNAL would be a fault of the server's own; UNKNOWN would be one that nobody thought of.
                    let is_fault = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
                    assert!(!is_fault, "{} with seed {seed}: {status}", method.path);
                }
            })
            .buffer_unordered(16);
        while calls.next().await.is_some() {}
        resident.push(process.resident());
    }
    assert!(!process.log().contains("panicked"), "{}", process.log());
    // No call is stuck, no slot is held, and memory is not lost.
    let settled = async {
        loop {
            let page = process.metrics().await;
            if metric(&page, "quintet_rpc_in_flight", &[]) == 0.0 && metric(&page, "quintet_batch_queue_depth", &[]) == 0.0 {
                return page;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), settled).await.expect("calls are stuck");
    // Caches and the allocator's arenas fill at some time or other; what leaks grows in every round.
    let grows = resident.windows(2).all(|pair| pair[1] > pair[0] + (16 << 20));
    assert!(!grows, "resident bytes after each round: {resident:?}");
    let mut text = quintet_proto::text::v1::text_service_client::TextServiceClient::new(channel);
    let request = quintet_proto::text::v1::GenerateRequest { prompt: "And".into(), ..Default::default() };
    text.generate(request).await.expect("a sane request is answered");
}
