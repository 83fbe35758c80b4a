//! The Open Inference Protocol v2 over the graphs of any service: raw tensors in, raw tensors out.
//!
//! A service hands its graphs over as [`Graph`]s; [`component`] serves them all under one name,
//! `inference.GRPCInferenceService`. A graph is called `MODEL/GRAPH`, or `MODEL` where the model has one.

#![forbid(unsafe_code)]

mod datatype;
mod error;
mod graph;
mod infer;
mod service;

pub use error::Error;
pub use graph::{Graph, Job};
pub use service::component;
