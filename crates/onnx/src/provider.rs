use std::{fmt, str::FromStr};

use ort::ep::{ArenaExtendStrategy, CPU, CUDA, ExecutionProviderDispatch, cuda::AttentionBackend};
use serde::{Deserialize, Deserializer, de};

/// Where graphs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its index. An error where it cannot be had.
    Cuda {
        /// The GPU's index.
        device: u16,
    },
    /// The first NVIDIA GPU if it can be had, else the processor.
    Auto,
}

impl Provider {
    /// What to try, in order, the next one only if this one cannot be had: a GPU's index, if it is one, and the provider.
    /// `records`: whether runs of fixed shapes on a GPU are to be recorded and played.
    pub(crate) fn candidates(self, records: bool) -> Vec<(Option<u16>, ExecutionProviderDispatch)> {
        match self {
            Self::Cpu => vec![(None, cpu())],
            Self::Cuda { device } => vec![(Some(device), cuda(device, records))],
            Self::Auto => vec![(Some(0), cuda(0, records)), (None, cpu())],
        }
    }
}

// `error_on_failure` matters: without it ONNX Runtime falls back to the processor and says nothing.

fn cpu() -> ExecutionProviderDispatch {
    // The arena keeps what a run needs for the next one: without it each run would ask the system for it anew.
    CPU::default().with_arena_allocator(true).build().error_on_failure()
}

fn cuda(device: u16, records: bool) -> ExecutionProviderDispatch {
    // Left alone the arena doubles whenever it grows, and takes memory that other models could use; and products of 32-bit numbers
    // would be rounded to 19 bits.
    let cuda = CUDA::default().with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested).with_tf32(false);
    // Left alone attention is cuDNN's from Hopper on, which takes 50 to 80 ms to plan each length that it has not seen.
    let attention = AttentionBackend::FLASH_ATTENTION | AttentionBackend::EFFICIENT_ATTENTION | AttentionBackend::MATH;
    cuda.with_attention_backend(attention).with_cuda_graph(records).with_device_id(i32::from(device)).build().error_on_failure()
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda { device } => write!(f, "cuda:{device}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "cuda" => Ok(Self::Cuda { device: 0 }),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(|device| Self::Cuda { device })
                .ok_or_else(|| format!("'{text}' is not a provider: use cpu, cuda, cuda:N or auto")),
        }
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_round_trip() {
        for text in ["cpu", "auto", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<Provider>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Provider::Cuda { device: 0 }));
        for text in ["", "gpu", "cuda:", "cuda:-1", "CPU"] {
            assert!(text.parse::<Provider>().is_err(), "{text}");
        }
    }
}
