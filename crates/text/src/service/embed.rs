use std::sync::atomic::{AtomicUsize, Ordering};

use quintet_proto::{
    text::v1::{EmbedRequest, EmbedResponse, Embedding, EmbeddingOutput, EncodingFormat, InputType, SparseEmbedding, TokenEmbedding},
    tokenization::v1::{EncodeRequest, Encoding},
};
use quintet_serving::error::Checks;

use super::{
    TextService,
    encodings::{MOST_INPUTS, ask, check_texts, count, in_groups, length, single, tokens},
    models::changed_kind,
};
use crate::{
    Error,
    engine::{
        Engine,
        encoder::{
            Encoder, Head,
            vector::{finished, int8},
        },
    },
};

/// The names of prompts for what queries look for, in the order of sentence-transformers.
const DOCUMENT_PROMPTS: [&str; 3] = ["document", "passage", "corpus"];
const QUERY_PROMPT: &str = "query";

/// Bytes that a vector takes in an answer beside its values: its frame, its scale, and for a token its id and place.
const PER_VECTOR: usize = 40;

/// What is done with vectors before they are answered.
#[derive(Clone, Copy)]
struct Finish {
    dimensions: Option<usize>,
    normalize: bool,
    format: EncodingFormat,
}

impl Finish {
    /// A vector's values as floats or as bytes, and the bytes' scale.
    fn apply(self, vector: &[f32]) -> (Vec<f32>, Vec<u8>, f32) {
        let vector = finished(vector, self.dimensions, self.normalize);
        if self.format == EncodingFormat::Int8 {
            let (bytes, scale) = int8(&vector);
            return (Vec::new(), bytes, scale);
        }
        (vector, Vec::new(), 0.0)
    }

    /// Bytes that a vector of so many dimensions takes in an answer.
    fn size(self, dimensions: usize) -> usize {
        PER_VECTOR + self.dimensions.unwrap_or(dimensions) * if self.format == EncodingFormat::Int8 { 1 } else { 4 }
    }
}

impl TextService {
    pub(super) async fn embed_texts(&self, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let output = EmbeddingOutput::try_from(request.output).map_err(|_| unknown("output", request.output, 3))?;
        let loaded = if output == EmbeddingOutput::Sparse {
            let can = |engine: &Engine| engine.encoder().is_some_and(|encoder| matches!(encoder.head(), Head::MaskedLm { .. }));
            self.models.find(&request.model, &request.model_version, "embed text sparsely", can)?
        } else {
            let can = |engine: &Engine| engine.encoder().is_some_and(|encoder| matches!(encoder.head(), Head::Tokens { .. }));
            self.models.find(&request.model, &request.model_version, "embed text", can)?
        };
        let Some(encoder) = loaded.model.encoder() else { return Err(changed_kind(&loaded)) };
        let folder = &loaded.folder;
        let mut checks = Checks::new();
        check_texts("inputs", request.inputs.iter().map(String::as_str), MOST_INPUTS, &mut checks);
        let finish = finish(&request, output, encoder, &mut checks);
        let prompt = prompt(&request, encoder, &mut checks);
        checks.finish().map_err(Error::Invalid)?;

        // The prompt stands before each text.
        let inputs = request.inputs.len();
        let bytes = request.inputs.iter().map(String::len).sum::<usize>().saturating_add(prompt.len().saturating_mul(inputs));
        self.encodable(folder, "inputs", inputs, bytes)?;
        let texts = request.inputs.into_iter().map(|text| single(format!("{prompt}{text}"))).collect();
        let asked = EncodeRequest { return_offsets: output == EmbeddingOutput::Tokens, ..EncodeRequest::default() };
        let field = |index| format!("inputs[{index}]");
        let texts = self.read(folder, texts, (encoder.max_tokens(), request.truncate), asked, field).await;
        let texts = texts.map_err(|error| error.of_inputs("inputs", |index, _| field(index)))?;
        let prompt_tokens = count(&texts);
        let embeddings = match output {
            EmbeddingOutput::Sparse => self.sparse(encoder, texts, self.vocabulary(&loaded, encoder).await?.size).await?,
            EmbeddingOutput::Tokens => self.by_token(encoder, texts, finish).await?,
            EmbeddingOutput::Text | EmbeddingOutput::Unspecified => self.pooled(encoder, texts, finish).await?,
        };
        Ok(EmbedResponse { model: folder.name.clone(), model_version: folder.version.clone(), embeddings, prompt_tokens })
    }

    async fn pooled(&self, encoder: &Encoder, texts: Vec<Encoding>, finish: Finish) -> Result<Vec<Embedding>, Error> {
        self.fits("inputs", texts.len().saturating_mul(finish.size(dimensions(encoder))))?;
        let ask = ask();
        let vectors = in_groups(encoder, texts, length, |text| encoder.embed(tokens(text), ask)).await?;
        let embedding = |vector: Vec<f32>| {
            let (values, int8_values, scale) = finish.apply(&vector);
            Embedding { values, int8_values, scale, ..Embedding::default() }
        };
        Ok(vectors.into_iter().map(embedding).collect())
    }

    async fn by_token(&self, encoder: &Encoder, texts: Vec<Encoding>, finish: Finish) -> Result<Vec<Embedding>, Error> {
        self.fits("inputs", (count(&texts) as usize).saturating_mul(finish.size(dimensions(encoder))))?;
        let ask = ask();
        let one = async |mut text: Encoding| {
            let spans = std::mem::take(&mut text.byte_offsets);
            let ids = text.ids.clone();
            let vectors = encoder.embed_tokens(tokens(text), ask).await?;
            let found = vectors.outer_iter().zip(ids).zip(spans).map(|((vector, token_id), span)| {
                let (values, int8_values, scale) = finish.apply(&vector.to_vec());
                TokenEmbedding { token_id, byte_span: Some(span), values, int8_values, scale }
            });
            Ok::<_, Error>(Embedding { tokens: found.collect(), ..Embedding::default() })
        };
        in_groups(encoder, texts, length, one).await
    }

    /// Weights of tokens below `vocabulary`: a graph may have more rows than its tokenizer has tokens.
    async fn sparse(&self, encoder: &Encoder, texts: Vec<Encoding>, vocabulary: u32) -> Result<Vec<Embedding>, Error> {
        let ask = ask();
        // How many weights a text has is known when it has run; the first that is too much ends the others.
        let taken = AtomicUsize::new(0);
        let one = async |text: Encoding| {
            let mut weights = encoder.embed_sparse(tokens(text), ask).await?;
            weights.retain(|(id, _)| *id < vocabulary);
            let bytes = PER_VECTOR + weights.len() * 8;
            self.fits("inputs", taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes))?;
            let (indices, values) = weights.into_iter().unzip();
            Ok::<_, Error>(Embedding { sparse: Some(SparseEmbedding { indices, values }), ..Embedding::default() })
        };
        in_groups(encoder, texts, length, one).await
    }

    /// Refuses a request whose answer would be larger than answers may be.
    pub(super) fn fits(&self, field: &str, bytes: usize) -> Result<(), Error> {
        let most = self.max_response_bytes;
        if bytes > most {
            return Err(Error::invalid(field, format!("the answer may take {bytes} bytes: at most {most}; ask for fewer at a time")));
        }
        Ok(())
    }
}

fn dimensions(encoder: &Encoder) -> usize {
    if let Head::Tokens { dimensions } = encoder.head() { *dimensions } else { 0 }
}

fn unknown(field: &str, given: i32, most: i32) -> Error {
    Error::invalid(field, format!("{given}: not known; 0 to {most} are"))
}

fn finish(request: &EmbedRequest, output: EmbeddingOutput, encoder: &Encoder, checks: &mut Checks) -> Finish {
    let format = EncodingFormat::try_from(request.encoding_format);
    checks.require(format.is_ok(), "encoding_format", || format!("{}: not known; 0 to 2 are", request.encoding_format));
    let format = format.unwrap_or_default();
    if output == EmbeddingOutput::Sparse {
        let not = || "sparse embeddings have none".to_owned();
        checks.require(request.dimensions.is_none(), "dimensions", not);
        checks.require(request.normalize.is_none(), "normalize", || "sparse embeddings are not scaled".to_owned());
        checks.require(format != EncodingFormat::Int8, "encoding_format", || "sparse embeddings are floats".to_owned());
    } else if let Some(asked) = request.dimensions {
        let most = dimensions(encoder);
        checks.require((1..=most).contains(&(asked as usize)), "dimensions", || format!("{asked}: must be 1 to {most}, the model's own"));
    }
    let by_itself = output != EmbeddingOutput::Tokens && encoder.normalizes();
    Finish { dimensions: request.dimensions.map(|asked| asked as usize), normalize: request.normalize.unwrap_or(by_itself), format }
}

/// What stands in front of each text.
fn prompt<'a>(request: &EmbedRequest, encoder: &'a Encoder, checks: &mut Checks) -> &'a str {
    let prompts = encoder.prompts();
    let input_type = InputType::try_from(request.input_type);
    checks.require(input_type.is_ok(), "input_type", || format!("{}: not known; 0 to 2 are", request.input_type));
    let input_type = input_type.unwrap_or_default();
    let named = |name: &str| prompts.get(name).map(String::as_str);
    let by_default = || encoder.default_prompt_name().and_then(named);
    let prompt = if request.prompt_name.is_empty() {
        match input_type {
            InputType::Unspecified => by_default(),
            InputType::Query => named(QUERY_PROMPT).or_else(by_default),
            InputType::Document => DOCUMENT_PROMPTS.into_iter().find_map(named).or_else(by_default),
        }
    } else {
        checks.require(input_type == InputType::Unspecified, "input_type", || "it does not go with prompt_name: give one of them".to_owned());
        let prompt = named(&request.prompt_name);
        checks.require(prompt.is_some(), "prompt_name", || {
            let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
            let given: String = request.prompt_name.chars().take(64).collect();
            if known.is_empty() { format!("{given:?}: the model has no prompts") } else { format!("{given:?}: the model has {}", known.join(", ")) }
        });
        prompt
    };
    prompt.unwrap_or_default()
}
