use crate::{
    Error,
    parameters::{self, Parameters},
};

/// A part of a region, as a tensor's parameters name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(super) region: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Window {
    /// The window that a tensor's parameters name, if they do.
    pub(crate) fn of(parameters: &Parameters) -> Result<Option<Self>, Error> {
        let Some(region) = parameters::text(parameters, "shared_memory_region")? else { return Ok(None) };
        let size = parameters::number(parameters, "shared_memory_byte_size")?
            .ok_or_else(|| Error::invalid("parameters[shared_memory_byte_size]", "missing: a region needs it"))?;
        let offset = parameters::number(parameters, "shared_memory_offset")?.unwrap_or(0);
        Ok(Some(Self { region: region.to_owned(), offset, size }))
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}
