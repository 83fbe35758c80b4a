use std::path::Path;

use quintet_onnx::{Loaded, ModelsConfig, Provider, Registry, Repository, RuntimeConfig};

use super::*;
use crate::engine::latents::latent;

fn embedded() -> Arc<Loaded<Gan>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/models");
    let repository = Repository::open(&ModelsConfig::local(path)).unwrap();
    let runtime = Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: false, cuda_graphs: true }).unwrap();
    let config = Config { default_model: String::new(), instances: 2, max_batch_images: 64, max_queue_images: 4096, max_delay_ms: 0 };
    let models =
        Registry::open("image model", &repository, |folder| folder.name == "glyph-gan", move |folder| Gan::load(folder, &runtime, &config, true));
    models.unwrap().find("glyph-gan", "").unwrap()
}

/// Invariant 7: a picture's bytes do not depend on what it was batched with.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_has_the_same_bits_alone_and_in_any_batch() {
    let gan = embedded();
    let latents: Vec<Latent> = (0..150).map(|index| latent(5, index, gan.latent_size(), gan.classes().len(), None, 1.0)).collect();
    let together = gan.generate_all(latents.clone(), Ask::rows(1)).await.unwrap();
    for index in [0, 1, 63, 64, 149] {
        assert_eq!(gan.generate(latents[index].clone(), Ask::rows(1)).await.unwrap(), together[index], "image {index}");
    }
    for count in [2, 3, 7, 33] {
        assert_eq!(gan.generate_all(latents[..count].to_vec(), Ask::rows(1)).await.unwrap(), together[..count], "{count} together");
    }
    // The library's tanh may end a rounding beyond 1.
    assert!(together.iter().flatten().all(|value| value.abs() < 1.0 + 1e-5));
    assert_ne!(together[0], together[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_discriminator_scores_each_image_alone() {
    let gan = embedded();
    let latents: Vec<Latent> = (0..70).map(|index| latent(9, index, gan.latent_size(), gan.classes().len(), None, 1.0)).collect();
    let classes: Vec<usize> = latents.iter().map(|latent| latent.class).collect();
    let images = gan.generate_all(latents, Ask::rows(1)).await.unwrap();
    let scores = gan.discriminate(images.clone(), classes.clone()).await.unwrap();
    assert_eq!(scores.len(), 70);
    assert_eq!(gan.discriminate(images[65..66].to_vec(), classes[65..66].to_vec()).await.unwrap(), scores[65..66]);
    // What it judges is an image under a name.
    let others: Vec<usize> = classes.iter().map(|class| (class + 10) % gan.classes().len()).collect();
    assert_ne!(gan.discriminate(images, others).await.unwrap(), scores);
    assert!(scores.iter().all(|score| score.is_finite()));
}
