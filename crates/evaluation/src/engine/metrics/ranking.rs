//! How well scores put anomalies above normals, as scikit-learn defines it.

/// The area under the ROC curve: the chance that an anomaly scores above a normal, ties counting half. `None` where one
/// of the two is missing.
pub fn roc_auc(scores: &[f64], anomalous: &[bool]) -> Option<f64> {
    let groups = tied(scores, anomalous);
    let (positives, negatives) = totals(anomalous);
    let mut below = 0.0;
    let mut area = 0.0;
    // From the lowest scores up.
    for (positive, negative) in groups.iter().rev() {
        area += positive * (below + negative / 2.0);
        below += negative;
    }
    (positives > 0.0 && negatives > 0.0).then(|| area / (positives * negatives))
}

/// Average precision: the sum over thresholds of precision times the gain in recall, which is no trapezoid.
pub fn average_precision(scores: &[f64], anomalous: &[bool]) -> Option<f64> {
    let (positives, _) = totals(anomalous);
    let (mut hits, mut found, mut sum) = (0.0, 0.0, 0.0);
    for (positive, negative) in tied(scores, anomalous) {
        hits += positive;
        found += positive + negative;
        sum += hits / found * positive;
    }
    (positives > 0.0).then(|| sum / positives)
}

fn totals(anomalous: &[bool]) -> (f64, f64) {
    let positives = anomalous.iter().filter(|anomalous| **anomalous).count();
    (positives as f64, (anomalous.len() - positives) as f64)
}

/// Anomalies and normals at each score, from the highest down.
fn tied(scores: &[f64], anomalous: &[bool]) -> Vec<(f64, f64)> {
    let mut order: Vec<(f64, bool)> = scores.iter().copied().zip(anomalous.iter().copied()).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    order
        .chunk_by(|a, b| a.0 == b.0)
        .map(|group| {
            let positive = group.iter().filter(|(_, anomalous)| *anomalous).count();
            (positive as f64, (group.len() - positive) as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_count_half() {
        assert_eq!(roc_auc(&[1.0, 1.0], &[true, false]), Some(0.5));
        assert_eq!(roc_auc(&[2.0, 1.0, 0.0], &[true, false, true]), Some(0.5));
        assert_eq!(roc_auc(&[1.0], &[true]), None);
    }

    proptest! {
        #[test]
        fn turning_the_scores_round_turns_the_area_round(rows in prop::collection::vec((0i8..10, any::<bool>()), 2..100)) {
            let scores: Vec<f64> = rows.iter().map(|(score, _)| f64::from(*score)).collect();
            let labels: Vec<bool> = rows.iter().map(|(_, label)| *label).collect();
            let turned: Vec<f64> = scores.iter().map(|score| -score).collect();
            if let (Some(area), Some(turned)) = (roc_auc(&scores, &labels), roc_auc(&turned, &labels)) {
                prop_assert!((area + turned - 1.0).abs() < 1e-12);
                prop_assert!(average_precision(&scores, &labels).unwrap() <= 1.0 + 1e-12);
            }
        }
    }
}
