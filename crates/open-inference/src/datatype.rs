use quintet_onnx::ElementType;

/// The protocol's names of the types.
const NAMES: [(ElementType, &str); 13] = [
    (ElementType::Bool, "BOOL"),
    (ElementType::U8, "UINT8"),
    (ElementType::U16, "UINT16"),
    (ElementType::U32, "UINT32"),
    (ElementType::U64, "UINT64"),
    (ElementType::I8, "INT8"),
    (ElementType::I16, "INT16"),
    (ElementType::I32, "INT32"),
    (ElementType::I64, "INT64"),
    (ElementType::F16, "FP16"),
    (ElementType::Bf16, "BF16"),
    (ElementType::F32, "FP32"),
    (ElementType::F64, "FP64"),
];

/// The protocol's name of a type.
pub(crate) fn name(element: ElementType) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == element).map_or("UNKNOWN", |(_, name)| name)
}

/// The type that the protocol calls so.
pub(crate) fn parse(text: &str) -> Option<ElementType> {
    NAMES.iter().find(|(_, name)| *name == text).map(|(element, _)| *element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (element, text) in NAMES {
            assert_eq!(parse(text), Some(element));
            assert_eq!(name(element), text);
        }
        assert_eq!(parse("BYTES"), None);
    }
}
