//! The generated clients, servers and messages of Quintet's contracts, and nothing else.
//!
//! The contracts themselves, with a comment on every field, are the `.proto` files under `proto/`.

#![forbid(unsafe_code)]
#![allow(clippy::all)]

/// Text to tokens and back.
pub mod tokenization {
    /// `quintet.tokenization.v1`
    pub mod v1 {
        tonic::include_proto!("quintet.tokenization.v1");
    }
}

/// Transformers over text.
pub mod text {
    /// `quintet.text.v1`
    pub mod v1 {
        tonic::include_proto!("quintet.text.v1");
    }
}

/// Images from generative adversarial networks.
pub mod image {
    /// `quintet.image.v1`
    pub mod v1 {
        tonic::include_proto!("quintet.image.v1");
    }
}

/// Anomalies by variational autoencoders.
pub mod anomaly {
    /// `quintet.anomaly.v1`
    pub mod v1 {
        tonic::include_proto!("quintet.anomaly.v1");
    }
}

/// How good a generative model is.
pub mod evaluation {
    /// `quintet.evaluation.v1`
    pub mod v1 {
        tonic::include_proto!("quintet.evaluation.v1");
    }
}

/// The Open Inference Protocol v2.
pub mod inference {
    tonic::include_proto!("inference");
}

/// The encoded `FileDescriptorSet` of all contracts, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
