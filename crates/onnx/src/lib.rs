//! ONNX Runtime for Quintet: the one crate that names `ort`.
//!
//! It finds and loads the runtime's library ([`Runtime`]), opens graphs on the provider that was asked for
//! and on no other ([`Session`], [`Provider`]), keeps every session on a thread of its own ([`Owner`]), and
//! reads model folders ([`ModelFolder`], [`Repository`]). It knows no protocol and no async runtime.
//!
//! What must hold:
//!
//! * A session runs on one thread. [`Owner`] gives it that thread; the text engine's decode loop is another
//!   such owner.
//! * The device asked for is the device used: a provider that cannot be had is an error, unless the
//!   configuration says `auto`; what each graph really runs on is read from the runtime
//!   ([`Session::provider_nodes`]).
//! * A model folder is verified before it serves: each file against its hash, each graph against its golden
//!   pairs ([`golden`]).

mod assignment;
mod binding;
mod canceller;
mod config;
mod error;
mod folder;
pub mod golden;
mod library;
mod owner;
mod provider;
mod repository;
mod runtime;
mod session;
mod tensor;

pub use binding::{Binding, DeviceTensor};
pub use canceller::Canceller;
pub use config::{DEFAULTS, ModelsConfig, RuntimeConfig};
pub use error::Error;
pub use folder::{Manifest, ModelFolder};
pub use library::LIBRARY_VERSION;
pub use owner::{Full, Owner, Sessions, Ticket};
pub use provider::Provider;
pub use repository::Repository;
pub use runtime::Runtime;
pub use session::{Input, Outputs, Session, TensorInfo, Value};
pub use tensor::{ElementType, Tensor};
