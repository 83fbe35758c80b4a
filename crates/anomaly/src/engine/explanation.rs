//! Why a sample scored as it did: where it differs from its reconstruction.

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::Error;

/// Pixels between the panels of a heat map.
const GAP: usize = 4;

/// Colours from no difference to the largest: dark violet over orange to pale yellow, of even steps in lightness.
const RAMP: [[u8; 3]; 8] = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

/// Each value's share of the squared error; all are 0 for a perfect reconstruction.
pub fn shares(sample: &[f32], reconstruction: &[f32]) -> Vec<f64> {
    let errors: Vec<f64> = sample.iter().zip(reconstruction).map(|(x, r)| (f64::from(*x) - f64::from(*r)).powi(2)).collect();
    let total: f64 = errors.iter().sum();
    if total > 0.0 { errors.into_iter().map(|error| error / total).collect() } else { errors }
}

/// A PNG with the sample, its reconstruction and the heat map of their squared difference, side by side. Each pixel
/// becomes `scale` by `scale`.
pub fn heat_map(sample: &[f32], reconstruction: &[f32], shape: [usize; 3], [low, high]: [f32; 2], scale: usize) -> Result<Vec<u8>, Error> {
    let [channels, height, width] = shape;
    let plane = height * width;
    let value = |values: &[f32], channel: usize, at: usize| values.get(channel.min(channels - 1) * plane + at).copied().unwrap_or(low);
    let byte = |value: f32| ((value - low) / (high - low) * 255.0).round() as u8;
    let differences: Vec<f32> =
        (0..plane).map(|at| (0..channels).map(|channel| (value(sample, channel, at) - value(reconstruction, channel, at)).powi(2)).sum()).collect();
    let largest = differences.iter().copied().fold(f32::MIN_POSITIVE, f32::max);

    let (panel, gap) = (width * scale, GAP);
    let (whole_width, whole_height) = (3 * panel + 2 * gap, height * scale);
    let mut pixels = Vec::with_capacity(whole_width * whole_height * 3);
    for y in 0..whole_height {
        for x in 0..whole_width {
            let (which, within) = (x / (panel + gap), x % (panel + gap));
            let at = (y / scale) * width + within / scale;
            let color = match which {
                _ if within >= panel => [255; 3],
                0 => [0, 1, 2].map(|channel| byte(value(sample, channel, at))),
                1 => [0, 1, 2].map(|channel| byte(value(reconstruction, channel, at))),
                _ => ramp(differences.get(at).copied().unwrap_or(0.0) / largest),
            };
            pixels.extend(color);
        }
    }
    let mut file = Vec::new();
    let written = PngEncoder::new(&mut file).write_image(&pixels, whole_width as u32, whole_height as u32, ExtendedColorType::Rgb8);
    written.map(|()| file).map_err(|error| Error::Drawing(error.to_string()))
}

/// The colour of a part between 0 and 1 of the largest difference.
fn ramp(part: f32) -> [u8; 3] {
    let place = part.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let (below, rest) = (place.floor() as usize, place.fract());
    let color = |index: usize| RAMP.get(index.min(RAMP.len() - 1)).copied().unwrap_or_default();
    let (a, b) = (color(below), color(below + 1));
    [0, 1, 2].map(|channel: usize| {
        let of = |color: [u8; 3]| f32::from(color.get(channel).copied().unwrap_or_default());
        (of(a) + (of(b) - of(a)) * rest).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_add_up_to_one(pairs in prop::collection::vec((-9f32..9.0, -9f32..9.0), 1..50)) {
            let (sample, reconstruction): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let shares = shares(&sample, &reconstruction);
            let total: f64 = shares.iter().sum();
            prop_assert!(sample == reconstruction && total == 0.0 || (total - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_map_shows_where_the_difference_is() {
        let file = heat_map(&[0.0, 1.0], &[0.0, 0.0], [1, 1, 2], [0.0, 1.0], 3).unwrap();
        let picture = image::load_from_memory(&file).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (3 * 6 + 2 * 4, 3));
        assert_eq!(picture.get_pixel(0, 0).0, [0, 0, 0]);
        assert_eq!(picture.get_pixel(5, 2).0, [255, 255, 255]);
        assert_eq!(picture.get_pixel(20, 0).0, RAMP[0]);
        assert_eq!(picture.get_pixel(25, 0).0, RAMP[7]);
    }
}
