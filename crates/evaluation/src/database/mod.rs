//! The PostgreSQL database that evaluations are kept in where replicas share them: a client adapter.

mod address;
mod connection;
mod schema;
mod tables;
mod tls;

pub(crate) use address::Address;
pub(crate) use connection::Standing;
pub(crate) use tables::Tables;
