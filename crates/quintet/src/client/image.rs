use std::path::PathBuf;

use clap::{Args, Subcommand};
use quintet_proto::image::v1::{ClassSelection, GenerateRequest, Grid, image_service_client::ImageServiceClient};
use serde_json::json;

use super::{
    Connection, Error,
    connection::MAX_MESSAGE_BYTES,
    output::{print, print_json},
    picture,
};

const EXAMPLES: &str = "\
Examples:
  quintet image generate --class Q --class U --class I --class N -n 16 -o letters.png
  quintet image generate --seed 7 -n 64 --columns 16 --psi 0.7
  quintet image generate -n 4 --each -o glyph.png        glyph-0.png, glyph-1.png, …";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate images, in a grid or each in a file of its own
    Generate(Generate),
}

#[derive(Debug, Args)]
struct Generate {
    /// The model
    #[arg(long, default_value = "")]
    model: String,
    /// How many images
    #[arg(short = 'n', long)]
    count: Option<u32>,
    /// A class to draw; may be repeated: the classes take turns
    #[arg(long)]
    class: Vec<String>,
    /// The same seed gives the same images
    #[arg(long)]
    seed: Option<u64>,
    /// Truncation: lower is more typical, up to 1
    #[arg(long, allow_negative_numbers = true)]
    psi: Option<f32>,
    /// Images in a row of the grid; 0 = about a square
    #[arg(long, default_value_t = 0)]
    columns: u32,
    /// Write each image to a file of its own
    #[arg(long)]
    each: bool,
    /// Where to write
    #[arg(short, long, default_value = "image.png")]
    output: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let channel = arguments.connection.open().await?;
    let mut client = ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let Command::Generate(generate) = arguments.command;
    let request = GenerateRequest {
        model: generate.model,
        count: generate.count,
        classes: (!generate.class.is_empty()).then_some(ClassSelection { names: generate.class }),
        seed: generate.seed,
        truncation_psi: generate.psi,
        grid: (!generate.each).then_some(Grid { columns: generate.columns, border: None }),
        ..GenerateRequest::default()
    };
    let answer = client.generate(request).await?.into_inner();
    let several = answer.images.len() > 1;
    for image in &answer.images {
        let path = if several { numbered(&generate.output, image.index) } else { generate.output.clone() };
        picture::write(&path, &image.data)?;
        if arguments.connection.json {
            print_json(
                &json!({"file": path, "class": image.class_name, "width": image.width, "height": image.height, "model": answer.model, "seed": answer.seed}),
            )?;
        } else {
            picture::show(&image.data)?;
            print(&format!("{} ({}×{}, model {}, seed {})\n", path.display(), image.width, image.height, answer.model, answer.seed))?;
        }
    }
    Ok(())
}

/// "glyph.png" and 3 to "glyph-3.png".
fn numbered(path: &std::path::Path, index: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or_else(|| "png".to_owned(), |extension| extension.to_string_lossy().into_owned());
    path.with_file_name(format!("{stem}-{index}.{extension}"))
}
