//! The kernel distance (KID, Bińkowski et al. 2018): the unbiased squared MMD with the kernel (x·y/D + 1)³, over subsets.

use nalgebra::DMatrix;
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha12Rng;

use super::bootstrap;
use crate::engine::Interval;

/// The reference's number of subsets.
pub const SUBSETS: usize = 100;

/// The reference's subset size; smaller sets take what there is.
const SUBSET_SIZE: usize = 1000;

/// How many subsets of which size sets of these sizes give. Where a subset is both sets whole, one is all there are.
pub fn subsets(a: usize, b: usize) -> (usize, usize) {
    let size = SUBSET_SIZE.min(a).min(b);
    (if size == a && size == b { 1 } else { SUBSETS }, size)
}

/// The mean over subsets drawn without replacement, and the outer quantiles of the subsets' values: their spread, which
/// is no standard error of the mean, and absent where there is but one subset. Rows are samples; each set has at least
/// two. `step` is called after each subset.
///
/// # Errors
///
/// The first of `step`'s own, at once: so a computation can be given up.
pub fn distance<E>(
    a: &DMatrix<f64>,
    b: &DMatrix<f64>,
    seed: u64,
    mut step: impl FnMut(usize) -> Result<(), E>,
) -> Result<(f64, Option<Interval>), E> {
    let (count, size) = subsets(a.nrows(), b.nrows());
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(count);
    for subset in 1..=count {
        let a = a.select_rows(&index::sample(&mut random, a.nrows(), size).into_vec());
        let b = b.select_rows(&index::sample(&mut random, b.nrows(), size).into_vec());
        values.push(squared_mmd(&a, &b));
        step(subset)?;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let spread = if count > 1 { bootstrap::percentiles(values, "subset-quantiles") } else { None };
    Ok((mean, spread))
}

/// The unbiased squared maximum mean discrepancy of two sets of equal size.
pub fn squared_mmd(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
    let n = a.nrows() as f64;
    let kernel = |x: &DMatrix<f64>, y: &DMatrix<f64>| {
        let mut product = x * y.transpose();
        let scale = 1.0 / x.ncols() as f64;
        product.apply(|dot| {
            let base = *dot * scale + 1.0;
            *dot = base * base * base;
        });
        product
    };
    let off_diagonal = |kernel: &DMatrix<f64>| (kernel.sum() - kernel.trace()) / (n * (n - 1.0));
    off_diagonal(&kernel(a, a)) + off_diagonal(&kernel(b, b)) - 2.0 * kernel(a, b).sum() / (n * n)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::engine::metrics::golden::matrix;

    fn kid(a: &DMatrix<f64>, b: &DMatrix<f64>) -> (f64, Option<Interval>) {
        distance(a, b, 5, |_| Ok::<_, Infallible>(())).unwrap()
    }

    #[test]
    fn sets_of_one_kind_are_closer_than_sets_of_two() {
        let (a, b) = (matrix(60, 4, 1), matrix(90, 4, 2));
        let (near, interval) = kid(&a, &b);
        let interval = interval.unwrap();
        assert!(interval.lower <= near && near <= interval.upper);
        assert!(kid(&a, &b.map(|value| value + 1.0)).0 > near + 0.5);
        assert_eq!(kid(&a, &b).0.to_bits(), near.to_bits(), "one seed, one value");
    }

    #[test]
    fn a_subset_that_is_all_has_no_spread() {
        let (a, b) = (matrix(60, 4, 1), matrix(60, 4, 2));
        let (value, interval) = kid(&a, &b);
        assert!(interval.is_none());
        // The order of the rows does not count.
        assert!((value - squared_mmd(&a, &b)).abs() < 1e-12);
        assert_eq!([subsets(2000, 2880), subsets(64, 2880), subsets(1000, 1000)], [(100, 1000), (100, 64), (1, 1000)]);
    }

    #[test]
    fn it_can_be_given_up() {
        let (a, b) = (matrix(60, 4, 1), matrix(90, 4, 2));
        assert_eq!(distance(&a, &b, 5, |subset| if subset == 2 { Err("enough") } else { Ok(()) }), Err("enough"));
    }
}
