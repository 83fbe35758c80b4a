//! Pixels: from a network's values to files and back.

use std::io::Cursor;

use image::{
    ColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
};

use crate::Error;

/// A picture with one byte for each value: rows from the top, pixels from the left, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// 1 for grey, 3 for RGB.
    pub channels: u32,
    /// The values.
    pub data: Vec<u8>,
}

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG.
    Png,
    /// JPEG with quality 90.
    Jpeg,
    /// WebP without loss.
    WebP,
    /// The bytes as they are.
    RawU8,
}

const JPEG_QUALITY: u8 = 90;

impl Picture {
    /// A picture from a network's values, channel by channel, of which `low` is black and `high` is white.
    pub fn from_values(values: &[f32], channels: usize, height: usize, width: usize, [low, high]: [f32; 2]) -> Self {
        let plane = height * width;
        let mut data = vec![0; plane * channels];
        for (channel, values) in values.chunks(plane.max(1)).enumerate().take(channels) {
            for (pixel, value) in data.chunks_mut(channels).zip(values) {
                if let Some(byte) = pixel.get_mut(channel) {
                    // `as` saturates: values beyond the range are black or white.
                    *byte = ((value - low) / (high - low) * 255.0).round() as u8;
                }
            }
        }
        Self { width: width as u32, height: height as u32, channels: channels as u32, data }
    }

    /// The values that a network reads, channel by channel: the way back.
    pub fn to_values(&self, [low, high]: [f32; 2]) -> Vec<f32> {
        let channels = self.channels as usize;
        (0..channels)
            .flat_map(|channel| self.data.iter().skip(channel).step_by(channels))
            .map(|byte| low + f32::from(*byte) / 255.0 * (high - low))
            .collect()
    }

    /// The picture as a file.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>, Error> {
        let mut file = Vec::new();
        let color = if self.channels == 1 { ColorType::L8 } else { ColorType::Rgb8 }.into();
        let outcome = match format {
            Format::RawU8 => return Ok(self.data.clone()),
            Format::Png => PngEncoder::new(&mut file).write_image(&self.data, self.width, self.height, color),
            Format::Jpeg => JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY).write_image(&self.data, self.width, self.height, color),
            Format::WebP => WebPEncoder::new_lossless(&mut file).write_image(&self.data, self.width, self.height, color),
        };
        outcome.map(|()| file).map_err(|error| Error::Encoding(error.to_string()))
    }

    /// Reads a file that must hold a picture of exactly this size. The size is read from the file's head and compared
    /// before anything of it is unpacked. Colour becomes grey, and grey becomes colour, as the network needs.
    pub fn decode(file: &[u8], width: u32, height: u32, channels: u32) -> Result<Self, String> {
        let reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
        match reader.format() {
            Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) => (),
            _ => return Err("not a PNG, JPEG or WebP picture".to_owned()),
        }
        let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
        let size = decoder.dimensions();
        if size != (width, height) {
            return Err(format!("{}×{} pixels: the model's pictures have {width}×{height}", size.0, size.1));
        }
        let decoded = image::DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        let data = if channels == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
        Ok(Self { width, height, channels, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_become_bytes_in_range_and_order() {
        let picture = Picture::from_values(&[-1.0, 1.0, 0.0, 9.0, -9.0, f32::NAN], 3, 1, 2, [-1.0, 1.0]);
        assert_eq!(picture.data, [0, 128, 0, 255, 255, 0]);
    }

    #[test]
    fn what_is_not_the_models_picture_is_refused_with_its_size() {
        let file = Picture { width: 3, height: 2, channels: 1, data: vec![7; 6] }.encode(Format::Png).unwrap();
        assert!(Picture::decode(&file, 32, 32, 1).unwrap_err().contains("3×2 pixels"));
        assert!(Picture::decode(&file[..file.len() - 20], 3, 2, 1).is_err(), "a truncated file");
        assert!(Picture::decode(b"no picture", 3, 2, 1).unwrap_err().contains("PNG"));
        assert!(Picture::decode(&[], 3, 2, 1).is_err());
    }

    proptest! {
        #[test]
        fn files_without_loss_round_trip(data in prop::collection::vec(any::<u8>(), 12), channels in prop::sample::select(vec![1u32, 3])) {
            let picture = Picture { width: 12 / channels, height: 1, channels, data };
            for format in [Format::Png, Format::WebP] {
                let file = picture.encode(format).unwrap();
                prop_assert_eq!(&Picture::decode(&file, picture.width, 1, channels).unwrap(), &picture);
            }
            let again = Picture::from_values(&picture.to_values([-1.0, 1.0]), channels as usize, 1, picture.width as usize, [-1.0, 1.0]);
            prop_assert_eq!(again, picture);
        }
    }
}
