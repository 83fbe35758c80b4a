//! What happens to every call before and after its handler.

mod admission;
mod calls;

pub(crate) use admission::{Admission, admit};
pub(crate) use calls::{Calls, describe, observe};
