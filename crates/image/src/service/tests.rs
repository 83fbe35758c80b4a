use std::path::Path;

use futures_util::StreamExt;
use quintet_onnx::{ModelsConfig, Provider, Repository, Runtime, RuntimeConfig};
use quintet_proto::image::v1::{ClassSelection, DiscriminateInput, Grid, ImageFormat, image_service_server::ImageService as _};
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::Config;

fn service() -> ImageService {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/models");
    let repository = Repository::open(&ModelsConfig { verify: false, ..ModelsConfig::local(path) }).unwrap();
    let runtime = Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: false, cuda_graphs: true }).unwrap();
    let config = Config { default_model: String::new(), instances: 1, max_batch_images: 64, max_queue_images: 4096, max_delay_ms: 0 };
    let models =
        Registry::open("image model", &repository, |folder| folder.manifest.kind == "gan", move |folder| Gan::load(folder, &runtime, &config, false));
    ImageService { models: models.unwrap(), default: String::new(), tasks: TaskTracker::new() }
}

#[allow(clippy::unnecessary_wraps, reason = "the field is optional")]
fn classes(names: &[&str]) -> Option<ClassSelection> {
    Some(ClassSelection { names: names.iter().map(ToString::to_string).collect() })
}

async fn fields(service: &ImageService, request: GenerateRequest) -> Vec<String> {
    let status = service.generate(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|field| field.field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_as_asked_and_a_longer_request_begins_with_the_same() {
    let service = service();
    let request = |count| GenerateRequest { count: Some(count), seed: Some(3), classes: classes(&["A", "7"]), ..GenerateRequest::default() };
    let few = service.generate(Request::new(request(3))).await.unwrap().into_inner();
    let many = service.generate(Request::new(request(80))).await.unwrap().into_inner();
    assert_eq!(few.images.iter().map(|image| image.class_name.as_str()).collect::<Vec<_>>(), ["A", "7", "A"]);
    assert_eq!(few.images, many.images[..3]);
    assert!(few.images[0].data.starts_with(b"\x89PNG"));
    assert_eq!((few.model.as_str(), few.model_version.as_str(), few.seed), ("glyph-gan", "1", 3));

    let stream = service.generate_stream(Request::new(GenerateStreamRequest { request: Some(request(80)) })).await.unwrap().into_inner();
    let streamed: Vec<_> = stream.map(|image| image.unwrap().image.unwrap()).collect().await;
    assert_eq!(streamed, many.images, "a stream sends what a whole answer holds, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_is_one_picture() {
    let service = service();
    let grid = Some(Grid { columns: 5, border: Some(1) });
    let request = GenerateRequest { count: Some(12), seed: Some(1), grid, format: ImageFormat::RawU8.into(), ..GenerateRequest::default() };
    let answer = service.generate(Request::new(request)).await.unwrap().into_inner();
    let image = &answer.images[0];
    assert_eq!((answer.images.len(), image.width, image.height), (1, 5 * 33 + 1, 3 * 33 + 1));
    assert_eq!(image.data.len(), (image.width * image.height) as usize);
    assert!(image.data.iter().any(|byte| *byte < 64), "there is ink");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_every_field() {
    let service = service();
    assert_eq!(
        fields(&service, GenerateRequest { count: Some(0), truncation_psi: Some(f32::NAN), format: 77, ..GenerateRequest::default() }).await,
        ["count", "truncation_psi", "format"]
    );
    assert_eq!(fields(&service, GenerateRequest { classes: classes(&["A", "ä"]), ..GenerateRequest::default() }).await, ["classes.names[1]"]);
    assert_eq!(fields(&service, GenerateRequest { count: Some(5000), ..GenerateRequest::default() }).await, ["count"]);
    let huge = Some(Grid { columns: 999, border: Some(u32::MAX) });
    assert_eq!(fields(&service, GenerateRequest { grid: huge, ..GenerateRequest::default() }).await, ["grid.columns", "grid.border"]);
    let unknown = service.generate(Request::new(GenerateRequest { model: "other".into(), ..GenerateRequest::default() })).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("glyph-gan"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_critic_reads_what_the_generator_wrote_and_refuses_the_rest() {
    let service = service();
    let request = GenerateRequest { seed: Some(5), classes: classes(&["Q"]), ..GenerateRequest::default() };
    let data = service.generate(Request::new(request)).await.unwrap().into_inner().images.pop().unwrap().data.to_vec();
    let judge = |data: Vec<u8>, class: &str| {
        let inputs = vec![DiscriminateInput { data, class_name: class.to_owned() }];
        service.discriminate(Request::new(DiscriminateRequest { inputs, ..DiscriminateRequest::default() }))
    };
    assert_eq!(judge(data.clone(), "Q").await.unwrap().into_inner().scores.len(), 1);
    for (data, class, field) in [(data[..40].to_vec(), "Q", "inputs[0].data"), (data, "?", "inputs[0].class_name")] {
        let status = judge(data, class).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
}
