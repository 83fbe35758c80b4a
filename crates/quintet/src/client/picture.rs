use std::{io::IsTerminal, path::Path};

use super::Error;

/// Writes a picture to a file.
pub(super) fn write(path: &Path, data: &[u8]) -> Result<(), Error> {
    std::fs::write(path, data).map_err(|error| Error::File { path: path.display().to_string(), reason: error.to_string() })
}

/// Shows a picture where standard output is a terminal. A terminal without graphics gets blocks of colour.
pub(super) fn show(data: &[u8]) {
    if !std::io::stdout().is_terminal() {
        return;
    }
    if let Ok(picture) = image::load_from_memory(data) {
        let config = viuer::Config { absolute_offset: false, width: Some(80.min(picture.width())), ..viuer::Config::default() };
        // A terminal that cannot show it is no reason to fail: the file is there.
        let _ = viuer::print(&picture, &config);
    }
}
