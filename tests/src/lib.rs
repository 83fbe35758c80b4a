//! End-to-end tests: the real processes, started on a free port and called through generated clients.
//!
//! One binary, so that the workspace links once for all of them. `harness` starts and stops processes; each other
//! module holds the tests of one concern. They need `cargo build --release --workspace` to have been run:
//! `scripts/test` does.

#![forbid(unsafe_code)]

#[cfg(test)]
mod harness;

#[cfg(test)]
mod anomaly;
#[cfg(test)]
mod apart;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod database;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod decoders;
#[cfg(test)]
mod encoders;
#[cfg(test)]
mod evaluation;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod floors;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod generation;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod image;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod open_inference;
#[cfg(test)]
mod python;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod security;
#[cfg(test)]
mod seq2seq;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod speculation;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod text;
#[cfg(test)]
mod tokenization;
