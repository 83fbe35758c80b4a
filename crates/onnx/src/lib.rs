//! ONNX Runtime for Quintet: the one crate that names `ort`.
//!
//! It finds and loads the runtime's library ([`Runtime`]), opens graphs on the provider that was asked for
//! and on no other ([`Session`], [`Provider`]), keeps every session on a thread of its own ([`Owner`],
//! [`Instances`]), reads model folders ([`ModelFolder`], [`Repository`]), and keeps what is loaded from them, which
//! may change while requests run ([`Registry`]). It knows no protocol and no async runtime.
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

mod bare;
mod binding;
mod canceller;
mod config;
mod error;
mod folder;
pub mod golden;
mod instances;
mod kv_cache;
mod library;
mod memory;
mod native;
pub mod npz;
mod owner;
mod provider;
mod recording;
mod repository;
mod runtime;
mod session;
mod settings;
mod tensor;

pub use canceller::Canceller;
pub use config::{DEFAULTS, ModelsConfig, RuntimeConfig};
pub use error::Error;
pub use folder::{CAUSAL_LM_KIND, ENCODER_KIND, GRAPH_KIND, Manifest, ModelFolder, SEQ2SEQ_KIND, TOKENIZER_KIND};
pub use instances::Instances;
pub use kv_cache::{CacheOutputs, CachePlace, Graph, KvCache};
pub use library::LIBRARY_VERSION;
pub use native::{CudaIpcFault, CudaIpcHandle, CudaIpcMemory, cuda_gpus, few_arenas, give_memory_back};
pub use owner::{Cancel, Full, Owner, Sessions, Ticket};
pub use provider::Provider;
pub use repository::{Control, Fleet, Hosting, Index, Loaded, Missing, Overlay, Poller, Registry, Repository, Staged, State};
pub use runtime::Runtime;
pub use session::{GraphInfo, Input, Outputs, Session, TensorInfo, Value};
pub use settings::{ServingSettings, VersionPolicy};
pub use tensor::{ElementType, Tensor};
