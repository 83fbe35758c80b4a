use quintet_proto::anomaly::v1::{ListCalibrationsRequest, SampleRequest};

use super::{Subject, sample_request};
use crate::conformance::check::{Checked, Verdict, ensure};

pub(super) async fn defaults(subject: &Subject) -> Checked {
    let default = &subject.listed.default_model;
    let Some(highest) = subject.listed.models.iter().rfind(|model| model.name == *default) else {
        return Err(Verdict::failed(format!("the default '{default}' is not listed")));
    };
    let unnamed = SampleRequest { model: String::new(), model_version: String::new(), ..sample_request(highest, 1) };
    let answer = subject.client().sample(unnamed).await?.into_inner();
    let named = (&answer.model, &answer.model_version);
    ensure!(named == (&highest.name, &highest.version), "an empty model is {named:?}: listed is {default} {}", highest.version);
    Ok(())
}

pub(super) async fn answers(subject: &Subject) -> Checked {
    let mut client = subject.client();
    for model in &subject.listed.models {
        let expected = (model.name.clone(), model.version.clone());
        let answer = client.sample(sample_request(model, 1)).await?.into_inner();
        ensure!((answer.model, answer.model_version) == expected, "Sample of {expected:?} names another");
        let asked = ListCalibrationsRequest { model: model.name.clone(), model_version: model.version.clone() };
        let answer = client.list_calibrations(asked).await?.into_inner();
        ensure!((answer.model, answer.model_version) == expected, "ListCalibrations of {expected:?} names another");
    }
    Ok(())
}

pub(super) async fn order(subject: &Subject) -> Checked {
    let names: Vec<_> = subject.listed.models.iter().map(|model| model.name.as_str()).collect();
    ensure!(names.is_sorted(), "ListModels gives {}", names.join(", "));
    let asked = ListCalibrationsRequest { model: subject.model.name.clone(), ..ListCalibrationsRequest::default() };
    let calibrations = subject.client().list_calibrations(asked).await?.into_inner().calibrations;
    let names: Vec<_> = calibrations.iter().map(|calibration| calibration.name.as_str()).collect();
    ensure!(names.is_sorted(), "ListCalibrations gives {}", names.join(", "));
    Ok(())
}
