//! The anomaly service on the embedded VAEs.

use std::fs::File;

use ndarray::{ArrayD, Axis};
use ndarray_npy::NpzReader;
use quintet_proto::anomaly::v1::{
    ExplainRequest, SampleData, ScoreRequest, ScoreStreamRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data,
};

use crate::harness::{Process, root};

fn held_out(name: &str) -> (Vec<SampleData>, Vec<i64>) {
    let mut archive = NpzReader::new(File::open(root().join("deploy/datasets").join(name).join("rows.npz")).unwrap()).unwrap();
    let (x, labels): (ArrayD<f32>, ArrayD<i64>) = (archive.by_name("x").unwrap(), archive.by_name("labels").unwrap());
    let sample = |values: Vec<f32>| SampleData { data: Some(Data::Values(Values { values })) };
    (x.axis_iter(Axis(0)).map(|row| sample(row.iter().copied().collect())).collect(), labels.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_score_alike_at_once_and_by_stream_and_malignant_ones_stand_out() {
    let process = Process::up(&[]);
    let mut client = AnomalyServiceClient::new(process.channel().await);
    let (samples, labels) = held_out("breast-cancer-heldout");
    let request = ScoreRequest { model: "vae-breast-cancer".into(), samples: samples.clone(), ..ScoreRequest::default() };
    let answer = client.score(request).await.unwrap().into_inner();
    let flagged = |label| {
        answer.scores.iter().zip(&labels).filter(|(score, l)| **l == label && score.is_anomaly).count() as f64
            / labels.iter().filter(|l| **l == label).count() as f64
    };
    assert!(flagged(0) < 0.15 && flagged(1) > 0.5, "{} of benign, {} of malignant", flagged(0), flagged(1));

    let mut messages: Vec<ScoreStreamRequest> =
        samples.into_iter().map(|sample| ScoreStreamRequest { sample: Some(sample), ..ScoreStreamRequest::default() }).collect();
    messages[0].model = "vae-breast-cancer".into();
    let mut stream = client.score_stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut index = 0;
    while let Some(next) = stream.message().await.unwrap() {
        assert_eq!((next.index, next.score.as_ref()), (index as u64, Some(&answer.scores[index])));
        index += 1;
    }
    assert_eq!(index, answer.scores.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_print_is_found_and_shown() {
    let process = Process::up(&[]);
    let mut client = AnomalyServiceClient::new(process.channel().await);
    let (samples, labels) = held_out("glyph-defects-heldout");
    let damaged = labels.iter().rposition(|label| *label == 1).unwrap();
    let request =
        ExplainRequest { model: "vae-glyphs".into(), sample: Some(samples[damaged - 1].clone()), scale: Some(6), ..ExplainRequest::default() };
    let answer = client.explain(request).await.unwrap().into_inner();
    let map = image::load_from_memory(&answer.heat_map).unwrap();
    assert_eq!((map.width(), map.height()), (3 * 32 * 6 + 8, 32 * 6));
    assert_eq!(answer.shares.len(), 1024);

    // The same picture as a file.
    let Some(Data::Values(values)) = &samples[0].data else { panic!("no values") };
    let bytes: Vec<u8> = values.values.iter().map(|value| (value * 255.0).round() as u8).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_raw(32, 32, bytes).unwrap().write_to(&mut file, image::ImageFormat::Png).unwrap();
    let picture = SampleData { data: Some(Data::Image(file.into_inner())) };
    let request = ScoreRequest { model: "vae-glyphs".into(), samples: vec![samples[0].clone(), picture], ..ScoreRequest::default() };
    let scores = client.score(request).await.unwrap().into_inner().scores;
    assert_eq!(scores[0], scores[1]);
}
