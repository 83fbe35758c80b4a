//! Pictures to samples.

use std::io::Cursor;

use image::{ImageDecoder, ImageFormat, ImageReader};

/// The values of a picture of exactly this size, channel by channel, black as `low` and white as `high`. The size is
/// read from the file's head and compared before anything of it is unpacked.
pub fn decode(file: &[u8], shape: &[usize], [low, high]: [f32; 2]) -> Result<Vec<f32>, String> {
    let &[channels, height, width] = shape else { return Err("the model reads no pictures".to_owned()) };
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
    match reader.format() {
        Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) => (),
        _ => return Err("not a PNG, JPEG or WebP picture".to_owned()),
    }
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let size = decoder.dimensions();
    if (size.0 as usize, size.1 as usize) != (width, height) {
        return Err(format!("{}×{} pixels: the model reads {width}×{height}", size.0, size.1));
    }
    let decoded = image::DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    let bytes = if channels == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
    let planes = (0..channels).flat_map(|channel| bytes.iter().skip(channel).step_by(channels));
    Ok(planes.map(|byte| low + f32::from(*byte) / 255.0 * (high - low)).collect())
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, codecs::png::PngEncoder};

    use super::*;

    #[test]
    fn black_is_low_and_white_is_high() {
        let mut file = Vec::new();
        PngEncoder::new(&mut file).write_image(&[0, 255], 2, 1, image::ExtendedColorType::L8).unwrap();
        assert_eq!(decode(&file, &[1, 1, 2], [-1.0, 1.0]).unwrap(), [-1.0, 1.0]);
        assert!(decode(&file, &[1, 2, 2], [0.0, 1.0]).unwrap_err().contains("2×1 pixels: the model reads 2×2"));
        assert!(decode(&file[..30], &[1, 1, 2], [0.0, 1.0]).is_err());
        assert!(decode(b"text", &[1, 1, 2], [0.0, 1.0]).unwrap_err().contains("PNG"));
    }
}
