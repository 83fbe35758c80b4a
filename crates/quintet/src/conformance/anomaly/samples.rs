use quintet_proto::anomaly::v1::SampleRequest;

use super::{Subject, sample_request, size};
use crate::conformance::check::{Checked, ensure};

pub(super) async fn drawn_seed(subject: &Subject) -> Checked {
    let mut client = subject.client();
    let drawn = client.sample(SampleRequest { seed: None, ..sample_request(&subject.model, 2) }).await?.into_inner();
    let again = client.sample(SampleRequest { seed: Some(drawn.seed), ..sample_request(&subject.model, 2) }).await?.into_inner();
    ensure!(again.samples == drawn.samples, "the seed {} that was named gives other samples", drawn.seed);
    Ok(())
}

pub(super) async fn more_begin_with_fewer(subject: &Subject) -> Checked {
    let mut client = subject.client();
    let few = client.sample(sample_request(&subject.model, 3)).await?.into_inner().samples;
    let many = client.sample(sample_request(&subject.model, 11)).await?.into_inner().samples;
    ensure!((few.len(), many.len()) == (3, 11), "requests for 3 and 11 samples give {} and {}", few.len(), many.len());
    let differs = few.iter().zip(&many).position(|(one, other)| one != other);
    ensure!(differs.is_none(), "sample {} of 3 is another one than of 11", differs.unwrap_or_default());
    let expected = size(&subject.model);
    let other = many.iter().find(|sample| sample.values.len() != expected).map(|sample| sample.values.len());
    ensure!(other.is_none(), "a sample has {other:?} values, and the model's shape {expected}");
    Ok(())
}
