//! Values from the reference implementations, on inputs that both sides make by the same rule.

use nalgebra::DMatrix;
use serde_json::Value;

use super::{frechet, inception::Predictions, kernel, ranking};

/// A matrix by a rule that any language can follow: a linear congruential generator (Knuth's MMIX constants), whose upper
/// 32 bits give a number from 0 to 1.
pub(crate) fn matrix(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    let mut state = seed;
    DMatrix::from_row_iterator(
        rows,
        columns,
        (0..rows * columns).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as f64 / 4_294_967_296.0
        }),
    )
}

fn check(name: &str, actual: f64, golden: &Value, tolerance: f64) {
    let expected = golden[name].as_f64().unwrap_or_else(|| panic!("{name} is missing: run scripts/golden/metrics.py"));
    assert!((actual - expected).abs() <= tolerance * expected.abs().max(1.0), "{name}: {actual} against {expected}");
}

#[test]
fn the_metrics_give_what_the_references_give() {
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let (a, b) = (matrix(300, 16, 1), matrix(200, 16, 2).map(|value| value * 1.3 + 0.1));
    check("fid", frechet::distance(&a, &b).unwrap(), &golden, 1e-9);
    let rank_deficient = (matrix(10, 16, 3), matrix(12, 16, 4));
    check("fid_rank_deficient", frechet::distance(&rank_deficient.0, &rank_deficient.1).unwrap(), &golden, 1e-6);
    check("kid", kernel::squared_mmd(&a.rows(0, 200).into_owned(), &b), &golden, 1e-9);
    let logits = matrix(250, 7, 5).map(|value| value * 8.0);
    let order: Vec<usize> = (0..250).collect();
    check("inception_score", Predictions::from_logits(&logits).score(&order), &golden, 1e-12);
    // Scores in steps, so that there are ties.
    let scores: Vec<f64> = matrix(1, 400, 6).iter().map(|value| (value * 40.0).floor()).collect();
    let labels: Vec<bool> = matrix(1, 400, 7).iter().zip(&scores).map(|(value, score)| value + score / 80.0 > 0.9).collect();
    check("roc_auc", ranking::roc_auc(&scores, &labels).unwrap(), &golden, 1e-12);
    check("average_precision", ranking::average_precision(&scores, &labels).unwrap(), &golden, 1e-12);
}
