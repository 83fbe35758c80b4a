use std::path::Path;

use quintet_onnx::{ModelFolder, ModelsConfig, Provider, Repository, Runtime, RuntimeConfig};
use quintet_proto::anomaly::v1::{SampleData, anomaly_service_server::AnomalyService as _, sample_data::Data as DataMessage};
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::Config;

fn service() -> AnomalyService {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/models");
    let repository = Repository::open(&ModelsConfig { verify: false, ..ModelsConfig::local(path) }).unwrap();
    let runtime = Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: false, cuda_graphs: true }).unwrap();
    let config = Config {
        default_model: String::new(),
        instances: 1,
        max_batch_rows: 64,
        max_queue_rows: 4096,
        max_delay_ms: 0,
        false_positive_rate: 0.05,
        max_calibrations: 4,
    };
    let load = move |folder: &ModelFolder| Vae::load(folder, &runtime, &config, false);
    let models = Registry::open("anomaly model", &repository, |folder| folder.manifest.kind == "vae", load).unwrap();
    AnomalyService { models, default: String::new() }
}

fn row(values: Vec<f32>) -> SampleData {
    SampleData { data: Some(DataMessage::Values(Values { values })) }
}

fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let fields = status.get_details_bad_request().unwrap().field_violations;
    fields.into_iter().map(|field| (field.field, field.description)).collect()
}

async fn refused(service: &AnomalyService, request: ScoreRequest) -> Vec<(String, String)> {
    violations(&service.score(Request::new(request)).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_samples_name_their_place_and_the_rule() {
    let service = service();
    let mut nan = vec![1.0; 30];
    nan[7] = f32::NAN;
    let samples =
        vec![row(vec![1.0; 30]), row(nan), row(vec![1.0; 29]), SampleData { data: None }, SampleData { data: Some(DataMessage::Image(vec![1])) }];
    let faults = refused(&service, ScoreRequest { model: "vae-breast-cancer".into(), samples, ..ScoreRequest::default() }).await;
    let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["samples[1].values[7]", "samples[2].values", "samples[3]", "samples[4].image"]);
    assert_eq!(faults[0].1, "NaN: must be finite");
    assert!(faults[1].1.contains("29 values: the model reads 30"), "{faults:?}");

    let image = SampleData { data: Some(DataMessage::Image(b"\x89PNG\r\n\x1a\n and no more".to_vec())) };
    let faults = refused(&service, ScoreRequest { model: "vae-glyphs".into(), samples: vec![image], ..ScoreRequest::default() }).await;
    assert_eq!(faults[0].0, "samples[0].image");
    assert_eq!(refused(&service, ScoreRequest::default()).await[0], ("samples".into(), "0 samples: must be 1 to 4096".into()));
    let many = vec![row(Vec::new()); 4097];
    assert_eq!(refused(&service, ScoreRequest { samples: many, ..ScoreRequest::default() }).await[0].1, "4097 samples: must be 1 to 4096");
    let unknown = ScoreRequest { samples: vec![row(vec![1.0; 30])], score: 9, ..ScoreRequest::default() };
    assert_eq!(refused(&service, unknown).await[0].0, "score");
    let nobody = service.score(Request::new(ScoreRequest { model: "nobody".into(), ..ScoreRequest::default() })).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
    let calibration = ScoreRequest { calibration: "none".into(), samples: vec![row(vec![1.0; 30])], ..ScoreRequest::default() };
    assert_eq!(service.score(Request::new(calibration)).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calibration_moves_the_threshold() {
    let service = service();
    let drawn = SampleRequest { model: "vae-breast-cancer".into(), count: Some(40), seed: Some(1), ..SampleRequest::default() };
    let normals: Vec<SampleData> =
        service.sample(Request::new(drawn)).await.unwrap().into_inner().samples.into_iter().map(|v| row(v.values)).collect();
    let request = CalibrateRequest {
        model: "vae-breast-cancer".into(),
        name: "drawn".into(),
        normals: normals.clone(),
        false_positive_rate: Some(0.25),
        ..CalibrateRequest::default()
    };
    let made = service.calibrate(Request::new(request.clone())).await.unwrap().into_inner().calibration.unwrap();
    assert_eq!((made.name.as_str(), made.normals), ("drawn", 40));
    let score = |calibration: &str| {
        let samples = normals.clone();
        service.score(Request::new(ScoreRequest {
            model: "vae-breast-cancer".into(),
            samples,
            calibration: calibration.into(),
            ..ScoreRequest::default()
        }))
    };
    let scored = score("drawn").await.unwrap().into_inner();
    assert_eq!(scored.scores.iter().filter(|score| score.is_anomaly).count(), 10);
    assert_eq!(scored.calibration, "drawn");
    // The prior's own samples are the most normal there is: none stands out against real normals.
    assert!(score("").await.unwrap().into_inner().scores.iter().all(|score| !score.is_anomaly && score.p_value > 0.05));

    for (change, field) in [
        (CalibrateRequest { name: "default".into(), ..request.clone() }, "name"),
        (CalibrateRequest { name: "a b".into(), ..request.clone() }, "name"),
        (CalibrateRequest { false_positive_rate: Some(0.001), ..request.clone() }, "false_positive_rate"),
        (CalibrateRequest { false_positive_rate: Some(f64::NAN), ..request.clone() }, "false_positive_rate"),
        (CalibrateRequest { normals: normals[..19].to_vec(), ..request }, "normals"),
    ] {
        assert_eq!(violations(&service.calibrate(Request::new(change)).await.unwrap_err())[0].0, field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_names_what_stands_out() {
    let service = service();
    let drawn = SampleRequest { model: "vae-breast-cancer".into(), count: Some(1), seed: Some(1), ..SampleRequest::default() };
    let mut values = service.sample(Request::new(drawn)).await.unwrap().into_inner().samples.remove(0).values;
    values[3] *= 20.0;
    let request = ExplainRequest { model: "vae-breast-cancer".into(), sample: Some(row(values)), scale: None, ..ExplainRequest::default() };
    let answer = service.explain(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(answer.features[0].name, "mean area");
    assert!(answer.features[0].share > 0.5 && answer.score.unwrap().is_anomaly && answer.heat_map.is_empty());
    assert!((answer.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);

    let drawn = SampleRequest { model: "vae-glyphs".into(), count: Some(1), seed: Some(1), ..SampleRequest::default() };
    let values = service.sample(Request::new(drawn)).await.unwrap().into_inner().samples.remove(0).values;
    let request = ExplainRequest { model: "vae-glyphs".into(), sample: Some(row(values)), scale: Some(4), ..ExplainRequest::default() };
    let answer = service.explain(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(image::load_from_memory(&answer.heat_map).unwrap().width(), 3 * 32 * 4 + 8);
}
