/// How tiktoken splits text before it merges, by the name of the encoding that has the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// `gpt2`.
    Gpt2,
    /// `r50k_base`: that of `gpt2`.
    R50kBase,
    /// `p50k_base`: that of `gpt2`.
    P50kBase,
    /// `cl100k_base`.
    Cl100kBase,
    /// `o200k_base`, and `o200k_harmony`.
    O200kBase,
    /// Llama 3.
    Llama3,
    /// Qwen and Qwen 2.
    Qwen2,
    /// A regular expression.
    Regex(String),
}

/// What `tiktoken_ext/openai_public.py` has as `r50k_pat_str`, in the spelling of the Hugging Face files of the same vocabularies. The
/// two split alike: tiktoken's is written so that its engine need not go back. This one is the one that encoders know.
const R50K: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// `cl100k_base`, likewise.
const CL100K: &str = LLAMA3;
/// `tiktoken_ext/openai_public.py`, `o200k_base`.
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// The pattern of Meta's `tokenizer.py` for Llama 3, also the default of transformers' `TikTokenConverter`.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The pattern of Qwen's `tokenization_qwen.py` and of transformers' `Qwen2Converter`: Llama 3's with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Pattern {
    /// The pattern of a name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "gpt2" => Self::Gpt2,
            "r50k_base" => Self::R50kBase,
            "p50k_base" | "p50k_edit" => Self::P50kBase,
            "cl100k_base" => Self::Cl100kBase,
            "o200k_base" | "o200k_harmony" => Self::O200kBase,
            "llama3" => Self::Llama3,
            "qwen2" | "qwen" => Self::Qwen2,
            _ => return None,
        })
    }

    /// The regular expression.
    pub(crate) fn regex(&self) -> &str {
        match self {
            Self::Gpt2 | Self::R50kBase | Self::P50kBase => R50K,
            Self::Cl100kBase => CL100K,
            Self::O200kBase => O200K,
            Self::Llama3 => LLAMA3,
            Self::Qwen2 => QWEN2,
            Self::Regex(regex) => regex,
        }
    }
}
