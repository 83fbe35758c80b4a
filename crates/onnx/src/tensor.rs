use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use ort::{
    session::SessionInputValue,
    value::{DynValue, TensorElementType, TensorRef},
};

use crate::Error;

macro_rules! tensor {
    ($($variant:ident, $type:ty, $ort:ident, $doc:literal;)*) => {
        /// An owned tensor of one of the types that model graphs use.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Tensor {
            $(#[doc = $doc] $variant(ArrayD<$type>),)*
        }

        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ElementType {
            $(#[doc = $doc] $variant,)*
        }

        impl Tensor {
            /// The type of the elements.
            pub fn element_type(&self) -> ElementType {
                match self { $(Self::$variant(_) => ElementType::$variant,)* }
            }

            /// The shape.
            pub fn shape(&self) -> &[usize] {
                match self { $(Self::$variant(array) => array.shape(),)* }
            }

            pub(crate) fn as_input(&self) -> Result<SessionInputValue<'_>, ort::Error> {
                Ok(match self {
                    $(Self::$variant(array) => SessionInputValue::from(TensorRef::from_array_view(array.view())?),)*
                })
            }

            pub(crate) fn from_value(value: &DynValue) -> Result<Self, ort::Error> {
                let element = value.dtype().tensor_type();
                match element {
                    $(Some(TensorElementType::$ort) => value.try_extract_array::<$type>().map(|view| Self::$variant(view.to_owned())),)*
                    _ => Err(ort::Error::new(format!("tensors of type {} are not supported", value.dtype()))),
                }
            }

            /// The elements as little-endian bytes, row by row.
            pub fn to_le_bytes(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(array) => {
                        let mut bytes = Vec::with_capacity(array.len() * size_of::<$type>());
                        array.iter().for_each(|value| value.append_le(&mut bytes));
                        bytes
                    })*
                }
            }

            /// A tensor from little-endian bytes, row by row. The number of bytes must fit the shape.
            pub fn from_le_bytes(name: &str, element: ElementType, shape: &[usize], bytes: &[u8]) -> Result<Self, Error> {
                let count = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
                let expected = count.and_then(|count| count.checked_mul(element.size()));
                if expected != Some(bytes.len()) {
                    return Err(Error::tensor(name, format!(
                        "{} bytes do not fill the shape {shape:?} of {}-byte elements", bytes.len(), element.size()
                    )));
                }
                let shape = IxDyn(shape);
                match element {
                    $(ElementType::$variant => {
                        let values = bytes.chunks_exact(size_of::<$type>()).map(<$type as LittleEndian>::read_le).collect();
                        ArrayD::from_shape_vec(shape, values).map(Self::$variant)
                    })*
                }
                .map_err(|error| Error::tensor(name, error.to_string()))
            }
        }

        impl ElementType {
            /// Bytes of one element.
            pub fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$type>(),)* }
            }

            pub(crate) fn from_ort(element: TensorElementType) -> Option<Self> {
                match element { $(TensorElementType::$ort => Some(Self::$variant),)* _ => None }
            }
        }

        $(impl From<ArrayD<$type>> for Tensor {
            fn from(array: ArrayD<$type>) -> Self { Self::$variant(array) }
        })*
    };
}

tensor! {
    Bool, bool, Bool, "Truth values.";
    U8, u8, Uint8, "8-bit unsigned integers.";
    U16, u16, Uint16, "16-bit unsigned integers.";
    U32, u32, Uint32, "32-bit unsigned integers.";
    U64, u64, Uint64, "64-bit unsigned integers.";
    I8, i8, Int8, "8-bit integers.";
    I16, i16, Int16, "16-bit integers.";
    I32, i32, Int32, "32-bit integers.";
    I64, i64, Int64, "64-bit integers.";
    F16, f16, Float16, "16-bit floats.";
    Bf16, bf16, Bfloat16, "Brain floats.";
    F32, f32, Float32, "32-bit floats.";
    F64, f64, Float64, "64-bit floats.";
}

impl Tensor {
    /// The values of a tensor of 32-bit floats.
    pub fn as_f32(&self) -> Option<ArrayViewD<'_, f32>> {
        match self {
            Self::F32(array) => Some(array.view()),
            _ => None,
        }
    }
}

/// One element to and from its little-endian bytes.
trait LittleEndian: Sized {
    fn append_le(&self, bytes: &mut Vec<u8>);
    /// `bytes` has exactly the type's size.
    fn read_le(bytes: &[u8]) -> Self;
}

macro_rules! little_endian {
    ($($type:ty)*) => {
        $(impl LittleEndian for $type {
            fn append_le(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn read_le(bytes: &[u8]) -> Self {
                let mut whole = [0; size_of::<$type>()];
                whole.copy_from_slice(bytes);
                Self::from_le_bytes(whole)
            }
        })*
    };
}

little_endian! { u8 u16 u32 u64 i8 i16 i32 i64 f16 bf16 f32 f64 }

impl LittleEndian for bool {
    fn append_le(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }
    fn read_le(bytes: &[u8]) -> Self {
        bytes.first().is_some_and(|byte| *byte != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        let tensor = Tensor::from(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1.5f32, -2.0, 0.0, f32::MAX]).unwrap());
        let bytes = tensor.to_le_bytes();
        assert_eq!(bytes.len(), 16);
        assert_eq!(Tensor::from_le_bytes("x", ElementType::F32, &[2, 2], &bytes).unwrap(), tensor);

        let flags = Tensor::from(ArrayD::from_shape_vec(IxDyn(&[3]), vec![true, false, true]).unwrap());
        assert_eq!(Tensor::from_le_bytes("x", ElementType::Bool, &[3], &flags.to_le_bytes()).unwrap(), flags);
    }

    #[test]
    fn wrong_byte_counts_are_refused() {
        assert!(Tensor::from_le_bytes("x", ElementType::I64, &[2], &[0; 15]).is_err());
        assert!(Tensor::from_le_bytes("x", ElementType::F32, &[usize::MAX, usize::MAX], &[]).is_err());
    }
}
