use quintet_onnx::ElementType;
use quintet_proto::inference::DataType;

/// The protocol's names of the types, and the model configuration's.
const NAMES: [(ElementType, &str, DataType); 14] = [
    (ElementType::Bool, "BOOL", DataType::TypeBool),
    (ElementType::U8, "UINT8", DataType::TypeUint8),
    (ElementType::U16, "UINT16", DataType::TypeUint16),
    (ElementType::U32, "UINT32", DataType::TypeUint32),
    (ElementType::U64, "UINT64", DataType::TypeUint64),
    (ElementType::I8, "INT8", DataType::TypeInt8),
    (ElementType::I16, "INT16", DataType::TypeInt16),
    (ElementType::I32, "INT32", DataType::TypeInt32),
    (ElementType::I64, "INT64", DataType::TypeInt64),
    (ElementType::F16, "FP16", DataType::TypeFp16),
    (ElementType::Bf16, "BF16", DataType::TypeBf16),
    (ElementType::F32, "FP32", DataType::TypeFp32),
    (ElementType::F64, "FP64", DataType::TypeFp64),
    (ElementType::Text, "BYTES", DataType::TypeString),
];

/// The protocol's name of a type.
pub(crate) fn name(element: ElementType) -> &'static str {
    NAMES.iter().find(|(known, ..)| *known == element).map_or("UNKNOWN", |(_, name, _)| name)
}

/// The model configuration's number of a type.
pub(crate) fn number(element: ElementType) -> DataType {
    NAMES.iter().find(|(known, ..)| *known == element).map_or(DataType::TypeInvalid, |(.., number)| *number)
}

/// The type that the protocol calls so.
pub(crate) fn parse(text: &str) -> Option<ElementType> {
    NAMES.iter().find(|(_, name, _)| *name == text).map(|(element, ..)| *element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (element, text, number) in NAMES {
            assert_eq!(parse(text), Some(element));
            assert_eq!((name(element), super::number(element)), (text, number));
        }
        assert_eq!(parse("FLOAT"), None);
    }
}
