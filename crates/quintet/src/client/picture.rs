use std::{fmt::Write as _, io::IsTerminal, path::Path};

use image::imageops::FilterType;

use super::{Error, output::print};

/// The widest picture that is shown, in characters.
const WIDEST: u32 = 80;

/// Writes a picture to a file.
pub(super) fn write(path: &Path, data: &[u8]) -> Result<(), Error> {
    std::fs::write(path, data).map_err(|error| Error::File { path: path.display().to_string(), reason: error.to_string() })
}

/// Shows a picture where standard output is a terminal: two pixels in a character, above and below, in 24-bit colour.
pub(super) fn show(data: &[u8]) -> Result<(), Error> {
    if !std::io::stdout().is_terminal() {
        return Ok(());
    }
    // What cannot be shown is no reason to fail: the file is there.
    let Ok(picture) = image::load_from_memory(data) else { return Ok(()) };
    let width = picture.width().min(WIDEST);
    let height = (picture.height() * width).div_ceil(picture.width().max(1)).next_multiple_of(2).max(2);
    let pixels = picture.resize_exact(width, height, FilterType::Triangle).into_rgb8();
    let mut text = String::new();
    for row in (0..height).step_by(2) {
        for column in 0..width {
            let [[r, g, b], [under_r, under_g, under_b]] = [row, row + 1].map(|row| pixels.get_pixel(column, row).0);
            // Writing to a String cannot fail.
            let _ = write!(text, "\x1b[38;2;{r};{g};{b};48;2;{under_r};{under_g};{under_b}m▀");
        }
        text.push_str("\x1b[0m\n");
    }
    print(&text)
}
