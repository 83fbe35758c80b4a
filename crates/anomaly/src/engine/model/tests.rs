use std::{
    fs::File,
    path::{Path, PathBuf},
};

use ndarray_npy::NpzReader;
use quintet_onnx::{Loaded, ModelsConfig, Provider, Registry, Repository, RuntimeConfig};

use super::*;
use crate::engine::score::ScoreKind;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn embedded() -> Vec<Arc<Loaded<Vae>>> {
    let repository = Repository::open(&ModelsConfig::local(root().join("deploy/models"))).unwrap();
    let runtime = Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: false, cuda_graphs: true }).unwrap();
    let config = Config {
        default_model: String::new(),
        instances: 2,
        max_batch_rows: 64,
        max_queue_rows: 4096,
        max_delay_ms: 0,
        false_positive_rate: 0.05,
        max_calibrations: 2,
    };
    let load = move |folder: &ModelFolder| Vae::load(folder, &runtime, &config, true);
    Registry::open("anomaly model", &repository, |folder| folder.manifest.kind == "vae", load).unwrap().all()
}

/// The model's held-out test samples, in the networks' units, and their labels.
fn held_out(vae: &Vae) -> (Vec<Vec<f32>>, Vec<i64>) {
    let name = match vae.name.as_str() {
        "vae-breast-cancer" => "breast-cancer-heldout",
        "vae-digits" => "digits-heldout",
        _ => "glyph-defects-heldout",
    };
    let mut archive = NpzReader::new(File::open(root().join("deploy/datasets").join(name).join("rows.npz")).unwrap()).unwrap();
    let x: ArrayD<f32> = archive.by_name("x").unwrap();
    let labels: ArrayD<i64> = archive.by_name("labels").unwrap();
    let mut samples: Vec<Vec<f32>> = x.axis_iter(Axis(0)).map(|row| row.iter().copied().collect()).collect();
    samples.iter_mut().for_each(|sample| vae.section.standardise(sample));
    (samples, labels.into_iter().collect())
}

/// Invariant 7: a sample's score does not depend on what it was batched with.
#[tokio::test(flavor = "multi_thread")]
async fn a_score_has_the_same_bits_alone_and_in_any_batch() {
    for vae in embedded() {
        let (samples, _) = held_out(&vae);
        let together = vae.reconstruct_all(samples[..150].to_vec(), Ask::rows(1)).await.unwrap();
        for index in [0, 1, 63, 64, 149] {
            assert_eq!(vae.reconstruct(samples[index].clone(), Ask::rows(1)).await.unwrap(), together[index], "{} sample {index}", vae.name);
        }
        for count in [2, 5, 31] {
            assert_eq!(
                vae.reconstruct_all(samples[..count].to_vec(), Ask::rows(1)).await.unwrap(),
                together[..count],
                "{} {count} together",
                vae.name
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_threshold_made_at_load_lets_few_normals_through_and_finds_anomalies() {
    let models = embedded();
    assert_eq!(models.len(), 3);
    for vae in models {
        let (samples, labels) = held_out(&vae);
        let kind = vae.section.default_score;
        let threshold = vae.calibration("").unwrap().threshold(kind);
        let scores = vae.reconstruct_all(samples, Ask::rows(1)).await.unwrap();
        let above = |label: i64| {
            let of: Vec<bool> = scores.iter().zip(&labels).filter(|(_, l)| **l == label).map(|(r, _)| r.scores.of(kind) > threshold).collect();
            of.iter().filter(|above| **above).count() as f64 / of.len() as f64
        };
        // 5 % are allowed; on fresh samples the rate scatters around it.
        assert!(above(0) < 0.12, "{}: {:.1} % of normals", vae.name, 100.0 * above(0));
        assert!(above(1) > 3.0 * above(0), "{}: {:.1} % of anomalies", vae.name, 100.0 * above(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_the_prior_depend_on_seed_and_index() {
    let vae = embedded().into_iter().find(|vae| vae.name == "vae-digits").unwrap();
    let many = vae.sample(4, 300).await.unwrap();
    assert_eq!(vae.sample(4, 2).await.unwrap(), many[..2]);
    assert_ne!(many[0], many[1]);
    assert_ne!(vae.sample(5, 1).await.unwrap(), many[..1]);
    assert!(many.iter().flatten().all(|value| (0.0..=1.0).contains(value)));
}

#[tokio::test(flavor = "multi_thread")]
async fn calibrations_are_kept_up_to_a_limit() {
    let vae = embedded().remove(0);
    let made = Arc::new(Calibration::new(&[Scores { reconstruction_error: 1.0, negative_elbo: 2.0 }], 0.5));
    for name in ["a", "b", "a"] {
        vae.keep(name.to_owned(), Arc::clone(&made)).unwrap();
    }
    assert!(matches!(vae.keep("c".to_owned(), Arc::clone(&made)), Err(Error::TooManyCalibrations { limit: 2, .. })));
    assert_eq!(vae.calibrations().into_keys().collect::<Vec<_>>(), ["a", "b", "default"]);
    assert!((vae.calibration("a").unwrap().threshold(ScoreKind::NegativeElbo) - 2.0).abs() < f64::EPSILON);
    assert!(matches!(vae.calibration("c"), Err(Error::UnknownCalibration { .. })));
}
