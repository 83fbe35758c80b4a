//! Where a picture comes from: the recipe, so that any program can follow it.
//!
//! Picture i of a request with seed s draws from its own random stream: `ChaCha12` (Bernstein 2008) with the 256-bit key
//! that `rand`'s `seed_from_u64(s)` derives from the seed, and stream number i. From it come first the class, where the
//! request names none and the model has some, as one uniform index; then z, value by value, from the standard normal
//! distribution by the ziggurat method of `rand_distr`, in 32-bit floats.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;

/// What one picture is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    /// The latent vector, already scaled by the truncation.
    pub z: Vec<f32>,
    /// The class's index; 0 for an unconditional model.
    pub class: usize,
}

/// The latent of picture `index`. `named` is the class asked for, if one was; `psi` scales z.
pub fn latent(seed: u64, index: u64, size: usize, classes: usize, named: Option<usize>, psi: f32) -> Latent {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(index);
    // Drawn even where a class is named, so that z does not depend on whether one is.
    let drawn = if classes == 0 { 0 } else { random.random_range(0..classes) };
    let z = (0..size).map(|_| psi * random.sample::<f32, _>(StandardNormal)).collect();
    Latent { z, class: named.unwrap_or(drawn) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_depends_on_its_seed_and_index_alone() {
        let a = latent(7, 3, 64, 36, None, 1.0);
        assert_eq!(a, latent(7, 3, 64, 36, None, 1.0));
        assert_ne!(a.z, latent(7, 4, 64, 36, None, 1.0).z);
        assert_ne!(a.z, latent(8, 3, 64, 36, None, 1.0).z);
        let named = latent(7, 3, 64, 36, Some(5), 1.0);
        assert_eq!((named.z, named.class), (a.z, 5), "naming a class changes the class alone");
    }

    #[test]
    fn latents_are_standard_normal_and_truncation_scales_them() {
        let values: Vec<f32> = (0..500).flat_map(|index| latent(1, index, 64, 0, None, 1.0).z).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let half = latent(1, 0, 64, 0, None, 0.5).z;
        assert!(half.iter().zip(&values).all(|(half, whole)| (half * 2.0 - whole).abs() < 1e-6));
    }

    #[test]
    fn classes_are_drawn_evenly() {
        let mut counts = [0; 4];
        (0..4000).for_each(|index| counts[latent(2, index, 1, 4, None, 1.0).class] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
