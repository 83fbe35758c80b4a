use prost::Message;
use prost_types::{FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

/// A service of the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Tokenization,
    Text,
    Image,
    Anomaly,
    Evaluation,
}

/// An rpc of a service, as its contract has it.
pub(super) struct Rpc {
    /// Its name.
    pub(super) name: String,
    /// The number of a field of its request that holds text, if there is one.
    pub(super) text_field: Option<u32>,
}

impl Service {
    pub(super) const ALL: [Self; 5] = [Self::Tokenization, Self::Text, Self::Image, Self::Anomaly, Self::Evaluation];

    /// The name that health and reflection have it by.
    pub(super) const fn full_name(self) -> &'static str {
        match self {
            Self::Tokenization => "quintet.tokenization.v1.TokenizationService",
            Self::Text => "quintet.text.v1.TextService",
            Self::Image => "quintet.image.v1.ImageService",
            Self::Anomaly => "quintet.anomaly.v1.AnomalyService",
            Self::Evaluation => "quintet.evaluation.v1.EvaluationService",
        }
    }

    /// The name that people have it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tokenization => "tokenization",
            Self::Text => "text",
            Self::Image => "image",
            Self::Anomaly => "anomaly",
            Self::Evaluation => "evaluation",
        }
    }
}

/// The rpcs of a service, by its full name.
pub(super) fn rpcs(service: &str) -> Vec<Rpc> {
    let contracts = FileDescriptorSet::decode(quintet_proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let is_text = |field: &&FieldDescriptorProto| field.r#type() == Type::String;
    let mut rpcs = Vec::new();
    for file in &contracts.file {
        let prefix = format!(".{}.", file.package());
        for method in file.service.iter().filter(|found| format!("{}.{}", file.package(), found.name()) == service).flat_map(|found| &found.method) {
            let input = file.message_type.iter().find(|message| format!("{prefix}{}", message.name()) == method.input_type());
            let text_field = input.and_then(|message| message.field.iter().find(is_text)).map(|field| field.number().unsigned_abs());
            rpcs.push(Rpc { name: method.name().to_owned(), text_field });
        }
    }
    rpcs
}
