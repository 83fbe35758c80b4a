use quintet_proto::image::v1::{GenerateRequest, ImageFormat};
use quintet_serving::error::Checks;

use crate::{
    Error,
    engine::{
        Gan, grid,
        latents::{Latent, latent},
    },
};

/// The most images of a request.
pub(super) const MAX_COUNT: usize = 4096;

/// The most pixels of a grid: a picture of 8,192 by 8,192.
const MAX_GRID_PIXELS: usize = 1 << 26;

/// A request with its defaults filled in and every field checked.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) count: usize,
    pub(super) seed: u64,
    pub(super) format: ImageFormat,
    pub(super) grid: Option<GridOrder>,
    /// Indices of the classes that take turns; empty = drawn from the seed.
    classes: Vec<usize>,
    psi: f32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct GridOrder {
    pub(super) columns: usize,
    pub(super) border: usize,
}

impl Order {
    pub(super) fn of(request: &GenerateRequest, gan: &Gan) -> Result<Self, Error> {
        let mut checks = Checks::new();
        let names = request.classes.as_ref().map(|selection| selection.names.as_slice());
        let mut classes = Vec::new();
        if let Some(names) = names {
            let known = gan.classes();
            checks.require(!known.is_empty(), "classes", || "the model is unconditional: it has no classes".to_owned());
            checks.require((1..=MAX_COUNT).contains(&names.len()), "classes.names", || format!("{} names: must be 1 to {MAX_COUNT}", names.len()));
            for (index, name) in names.iter().enumerate() {
                match known.iter().position(|class| class == name) {
                    Some(class) => classes.push(class),
                    None if known.is_empty() => (),
                    None => {
                        checks.require(false, format!("classes.names[{index}]"), || format!("'{name}' is no class; there are: {}", known.join(", ")));
                    }
                }
            }
        }
        let count = request.count.map_or_else(|| names.map_or(1, <[String]>::len), |count| count as usize);
        checks.require((1..=MAX_COUNT).contains(&count), "count", || format!("{count}: must be 1 to {MAX_COUNT}"));
        let psi = request.truncation_psi.unwrap_or(1.0);
        checks.require(psi > 0.0 && psi <= 1.0, "truncation_psi", || format!("{psi}: must be above 0 and at most 1"));
        let format = ImageFormat::try_from(request.format);
        checks.require(format.is_ok(), "format", || format!("{} is no image format: 0 to 5 are", request.format));
        let format = match format.unwrap_or_default() {
            ImageFormat::Unspecified => ImageFormat::Png,
            format => format,
        };
        let grid = request.grid.as_ref().map(|grid| {
            let (columns, border) = (grid.columns as usize, grid.border.unwrap_or(2) as usize);
            checks.require(columns <= 256, "grid.columns", || format!("{columns}: must be 0 to 256"));
            checks.require(border <= 64, "grid.border", || format!("{border}: must be 0 to 64"));
            checks.require(format != ImageFormat::RawF32, "format", || "a grid has no values of the model's own: choose another format".to_owned());
            let columns = if columns == 0 { grid::columns(count.min(MAX_COUNT)) } else { columns.min(count.max(1)) };
            GridOrder { columns, border }
        });
        if let Some(GridOrder { columns, border }) = grid {
            let [_, height, width] = gan.shape();
            let (whole_width, whole_height) = grid::size(count.min(MAX_COUNT), columns, border.min(64), width, height);
            let pixels = whole_width.saturating_mul(whole_height);
            checks.require(pixels <= MAX_GRID_PIXELS, "grid", || format!("{whole_width}×{whole_height} pixels: at most {MAX_GRID_PIXELS} together"));
        }
        checks.finish().map_err(Error::Invalid)?;
        Ok(Self { count, seed: request.seed.unwrap_or_else(rand::random), format, grid, classes, psi })
    }

    /// The latent of image `index`.
    pub(super) fn latent(&self, index: usize, gan: &Gan) -> Latent {
        let named = self.classes.get(index.checked_rem(self.classes.len()).unwrap_or(0)).copied();
        latent(self.seed, index as u64, gan.latent_size(), gan.classes().len(), named, self.psi)
    }
}
