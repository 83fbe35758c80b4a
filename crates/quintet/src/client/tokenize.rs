use clap::Args;
use quintet_proto::tokenization::v1::{DecodeRequest, EncodeInput, EncodeRequest, TokenIds, tokenization_service_client::TokenizationServiceClient};
use serde_json::json;

use super::{
    Connection, Error,
    connection::MAX_MESSAGE_BYTES,
    output::{print, print_json, table},
};

const EXAMPLES: &str = "\
Examples:
  quintet tokenize \"In the beginning\"
  quintet tokenize --model all-minilm-l6-v2 \"A man is eating food.\"
  quintet tokenize --decode --model gpt-english 364 266 1435";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The text; with --decode, token ids
    #[arg(required = true)]
    input: Vec<String>,
    /// The tokenizer
    #[arg(long, default_value = "")]
    model: String,
    /// Turn ids into text
    #[arg(long)]
    decode: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let channel = arguments.connection.open().await?;
    let mut client =
        TokenizationServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
    if arguments.decode {
        let ids = arguments.input.iter().flat_map(|input| input.split([' ', ','])).filter(|id| !id.is_empty());
        let ids = ids.map(|id| id.parse().map_err(|_| Error::Usage(format!("'{id}' is not a token id")))).collect::<Result<Vec<u32>, _>>()?;
        let request =
            DecodeRequest { model: arguments.model, sequences: vec![TokenIds { ids }], skip_special_tokens: Some(false), ..DecodeRequest::default() };
        let text = client.decode(request).await?.into_inner().texts.pop().unwrap_or_default();
        return if arguments.connection.json { print_json(&json!({"text": text})) } else { print(&format!("{text}\n")) };
    }
    let text = arguments.input.join(" ");
    let request = EncodeRequest {
        model: arguments.model,
        inputs: vec![EncodeInput { text: text.clone(), ..EncodeInput::default() }],
        return_offsets: true,
        ..EncodeRequest::default()
    };
    let answer = client.encode(request).await?.into_inner();
    let encoding = answer.encodings.into_iter().next().unwrap_or_default();
    let pieces: Vec<(u32, &str)> = encoding
        .ids
        .iter()
        .zip(&encoding.byte_offsets)
        .map(|(id, span)| (*id, text.get(span.start as usize..span.end as usize).unwrap_or("�")))
        .collect();
    if arguments.connection.json {
        return print_json(&json!({"model": answer.model, "ids": encoding.ids, "tokens": pieces.iter().map(|(_, piece)| piece).collect::<Vec<_>>()}));
    }
    table(&["id", "text"], pieces.into_iter().map(|(id, piece)| vec![id.to_string(), format!("{piece:?}")]))
}
