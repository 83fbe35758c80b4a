//! The Fréchet distance (FID, Heusel et al. 2017): between Gaussians fitted to two sets of features.

use nalgebra::{DMatrix, DVector, linalg::Cholesky};

/// The distance: ‖Δμ‖² + tr(S₁ + S₂) − 2 Σ√λ(S₁S₂), with covariances of n − 1. Rows are samples; at least two each.
/// `None` where the eigenvalues cannot be found.
pub fn distance(a: &DMatrix<f64>, b: &DMatrix<f64>) -> Option<f64> {
    let ((mean_a, covariance_a), (mean_b, covariance_b)) = (moments(a), moments(b));
    let difference = (mean_a - mean_b).norm_squared();
    let roots = root_trace(&covariance_a, &covariance_b)?;
    Some(difference + covariance_a.trace() + covariance_b.trace() - 2.0 * roots)
}

/// Mean and covariance of rows.
fn moments(rows: &DMatrix<f64>) -> (DVector<f64>, DMatrix<f64>) {
    let mean = rows.row_mean();
    let mut centred = rows.clone();
    for mut row in centred.row_iter_mut() {
        row -= &mean;
    }
    let covariance = centred.tr_mul(&centred) / (rows.nrows() as f64 - 1.0);
    (mean.transpose(), covariance)
}

/// The trace of √(S₁S₂). With S₁ = `LLᵀ`, the eigenvalues of S₁S₂ are those of the symmetric `LᵀS₂L`; where S₁ has not full
/// rank, its symmetric root takes L's place.
fn root_trace(a: &DMatrix<f64>, b: &DMatrix<f64>) -> Option<f64> {
    let factor = match Cholesky::new(a.clone()) {
        Some(cholesky) => cholesky.l(),
        None => symmetric_root(a)?,
    };
    let product = factor.tr_mul(&(b * &factor));
    // Rounding leaves it symmetric but for the last bits.
    let symmetric = (&product + product.transpose()) * 0.5;
    let eigenvalues = symmetric.symmetric_eigen().eigenvalues;
    let trace = eigenvalues.iter().map(|value| value.max(0.0).sqrt()).sum::<f64>();
    trace.is_finite().then_some(trace)
}

fn symmetric_root(matrix: &DMatrix<f64>) -> Option<DMatrix<f64>> {
    let eigen = matrix.clone().try_symmetric_eigen(f64::EPSILON, 0)?;
    let roots = eigen.eigenvalues.map(|value| value.max(0.0).sqrt());
    Some(&eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::golden::matrix;

    #[test]
    fn a_set_has_no_distance_to_itself_and_the_distance_is_symmetric() {
        let (a, b) = (matrix(40, 5, 1), matrix(30, 5, 2));
        assert!(distance(&a, &a).unwrap().abs() < 1e-9);
        assert!((distance(&a, &b).unwrap() - distance(&b, &a).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn fewer_samples_than_dimensions_still_have_a_distance() {
        let (a, b) = (matrix(4, 9, 1), matrix(5, 9, 2));
        let distance = distance(&a, &b).unwrap();
        assert!(distance.is_finite() && distance > 0.0, "{distance}");
    }

    #[test]
    fn a_shift_of_the_mean_counts_squared() {
        let a = matrix(50, 3, 1);
        let b = a.map(|value| value + 2.0);
        assert!((distance(&a, &b).unwrap() - 12.0).abs() < 1e-9);
    }
}
