//! The Open Inference Protocol v2, with Triton's extensions, over the graphs of any service: raw tensors in, raw tensors
//! out; and the repository, as operators' tools manage it.
//!
//! Each service makes its models' graphs known as [`Graph`]s, through its registry of models ([`Host`]); [`component`]
//! serves them all under one name, `inference.GRPCInferenceService`. A graph is called `MODEL/GRAPH`, or `MODEL` where the
//! model has one. Model folders of kind "graph", and bare `model.onnx` files, are served here and for nothing
//! else.
//!
//! What must hold:
//!
//! * Requests for one graph are batched by rows where the graph's first dimension is a batch, and an answer is its
//!   request's own: its rows, the outputs that it asked for, its errors.
//! * What a client names by path, key or file name never leaves the folder that it is meant for.
//! * Memory that a client shares is read and written within its region alone, by threads that may wait for the machine, and is given
//!   back when its last request has ended.

#![forbid(unsafe_code)]

mod answer;
mod config;
mod datatype;
mod error;
mod graph;
mod host;
mod load;
mod memory;
mod parameters;
mod plain;
mod request;
mod run;
mod service;
mod statistics;

pub use error::Error;
pub use graph::{Check, Graph, Job, RawInput};
pub use host::{Host, Hosted};
pub use service::component;

use plain::plain_models;
