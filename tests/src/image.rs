//! The image service on the embedded GAN.

use quintet_proto::image::v1::{
    ClassSelection, GenerateRequest, GenerateStreamRequest, Grid, ImageFormat, ListModelsRequest, image_service_client::ImageServiceClient,
};
use tokio::task::JoinSet;

use crate::harness::Process;

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_seeded_conditional_and_the_same_in_a_crowd() {
    let process = Process::up(&[]);
    let channel = process.channel().await;
    let mut client = ImageServiceClient::new(channel.clone());
    let classes = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models.remove(0).classes;
    assert_eq!(classes.concat(), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    let request = |seed| GenerateRequest {
        count: Some(5),
        seed: Some(seed),
        classes: Some(ClassSelection { names: vec!["R".into(), "S".into()] }),
        ..GenerateRequest::default()
    };
    let mut alone = Vec::new();
    for seed in 0..4 {
        alone.push(client.generate(request(seed)).await.unwrap().into_inner().images);
    }
    let picture = image::load_from_memory(&alone[0][1].data).unwrap().into_luma8();
    assert_eq!((picture.width(), picture.height(), alone[0][1].class_name.as_str()), (32, 32, "S"));
    assert!(picture.pixels().any(|pixel| pixel.0[0] < 100) && picture.get_pixel(0, 0).0[0] > 200, "ink on paper");
    assert_ne!(alone[0][0].data, alone[1][0].data);
    let mut crowd = JoinSet::new();
    for copy in 0..32u64 {
        let (mut client, request) = (ImageServiceClient::new(channel.clone()), request(copy % 4));
        crowd.spawn(async move { (copy % 4, client.generate(request).await.unwrap().into_inner().images) });
    }
    for (seed, images) in crowd.join_all().await {
        assert_eq!(images, alone[seed as usize]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_a_grid_come_whole() {
    let process = Process::up(&[]);
    let mut client = ImageServiceClient::new(process.channel().await);
    for (format, head) in [(ImageFormat::Png, &b"\x89PNG"[..]), (ImageFormat::Jpeg, b"\xff\xd8\xff"), (ImageFormat::Webp, b"RIFF")] {
        let request = GenerateRequest { seed: Some(1), format: format.into(), ..GenerateRequest::default() };
        let image = client.generate(request).await.unwrap().into_inner().images.remove(0);
        assert!(image.data.starts_with(head) && image.format() == format);
        assert_eq!(image::load_from_memory(&image.data).unwrap().width(), 32);
    }
    let raw = |format: ImageFormat| GenerateRequest { seed: Some(1), format: format.into(), ..GenerateRequest::default() };
    let bytes = client.generate(raw(ImageFormat::RawU8)).await.unwrap().into_inner().images.remove(0);
    let floats = client.generate(raw(ImageFormat::RawF32)).await.unwrap().into_inner().images.remove(0);
    assert_eq!((bytes.data.len(), floats.data.len()), (32 * 32, 32 * 32 * 4));
    let grid = GenerateRequest { count: Some(36), seed: Some(1), grid: Some(Grid::default()), ..GenerateRequest::default() };
    let picture = client.generate(grid).await.unwrap().into_inner().images.remove(0);
    assert_eq!((picture.width, picture.height), (6 * 34 + 2, 6 * 34 + 2));
    let request = GenerateRequest { count: Some(200), seed: Some(1), ..GenerateRequest::default() };
    let mut stream = client.generate_stream(GenerateStreamRequest { request: Some(request) }).await.unwrap().into_inner();
    let mut next = 0;
    while let Some(answer) = stream.message().await.unwrap() {
        assert_eq!(answer.image.unwrap().index, next);
        next += 1;
    }
    assert_eq!(next, 200);
}
