//! The process around a service: configuration, the listener, security, admission, health, reflection, metrics, errors,
//! drain.
//!
//! A service is a [`component::Component`]: a name, what to register, and what to do when the process drains.
//! A [`server::Server`] serves any number of them on one port. A service's own program and the `quintet` program
//! differ in nothing but which components they hand over.
//!
//! What must hold:
//!
//! * The process's environment is read here, in [`config`], and nowhere else.
//! * Ready means that every component says so. When the shutdown token is cancelled, health turns first, then
//!   the listener closes, and what was accepted finishes under a stated limit.
//! * Every call passes the gate: it has a [`context::Context`], a place, and an end that is counted.
//! * An internal fault reaches a client as a request id; its cause is in the log under the same id. Keys and
//!   certificates are never logged.

#![forbid(unsafe_code)]

pub mod command;
pub mod component;
pub mod config;
pub mod context;
mod energy;
pub mod error;
mod gate;
mod health;
mod listener;
mod local;
pub mod peer;
pub mod security;
pub mod server;
pub mod signals;
pub mod telemetry;

/// Of every program that serves. What one thread allocates another frees all the time here: a request's bytes, a batch's answers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
