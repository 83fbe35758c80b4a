use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};
use ort::{
    session::SessionInputValue,
    value::{DynValue, Tensor as OrtTensor, TensorElementType, TensorRef},
};

use crate::Error;

macro_rules! tensor {
    ($($variant:ident, $type:ty, $ort:ident, $doc:literal;)*) => {
        /// An owned tensor of one of the types that model graphs use.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Tensor {
            $(#[doc = $doc] $variant(ArrayD<$type>),)*
            /// Texts.
            Text(ArrayD<String>),
        }

        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ElementType {
            $(#[doc = $doc] $variant,)*
            /// Texts.
            Text,
        }

        impl Tensor {
            /// The type of the elements.
            pub fn element_type(&self) -> ElementType {
                match self { $(Self::$variant(_) => ElementType::$variant,)* Self::Text(_) => ElementType::Text }
            }

            /// The shape.
            pub fn shape(&self) -> &[usize] {
                match self { $(Self::$variant(array) => array.shape(),)* Self::Text(array) => array.shape() }
            }

            pub(crate) fn as_input(&self) -> Result<SessionInputValue<'_>, ort::Error> {
                Ok(match self {
                    $(Self::$variant(array) => SessionInputValue::from(TensorRef::from_array_view(array.view())?),)*
                    Self::Text(array) => SessionInputValue::from(OrtTensor::from_string_array(array)?),
                })
            }

            /// The elements as little-endian bytes, row by row; each text after its length in four bytes.
            pub fn to_le_bytes(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(array) => <$type>::bytes_of(array),)*
                    Self::Text(array) => {
                        let mut bytes = Vec::new();
                        for text in array {
                            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                            bytes.extend_from_slice(text.as_bytes());
                        }
                        bytes
                    }
                }
            }

            /// A tensor from little-endian bytes, row by row. The number of bytes must fit the shape.
            pub fn from_le_bytes(name: &str, element: ElementType, shape: &[usize], bytes: &[u8]) -> Result<Self, Error> {
                let count = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
                if element == ElementType::Text {
                    return texts(name, shape, count, bytes);
                }
                let expected = count.and_then(|count| count.checked_mul(element.size()));
                if expected != Some(bytes.len()) {
                    return Err(Error::tensor(name, format!(
                        "{} bytes do not fill the shape {shape:?} of {}-byte elements", bytes.len(), element.size()
                    )));
                }
                let shape = IxDyn(shape);
                match element {
                    $(ElementType::$variant => ArrayD::from_shape_vec(shape, <$type>::from_bytes(bytes)).map(Self::$variant),)*
                    ElementType::Text => ArrayD::from_shape_vec(shape, Vec::new()).map(Self::Text),
                }
                .map_err(|error| Error::tensor(name, error.to_string()))
            }

            /// Several tensors one after the other along the first axis. They must be of one type and otherwise of one
            /// shape.
            pub fn concatenate(name: &str, parts: &[&Self]) -> Result<Self, Error> {
                let first = parts.first().ok_or_else(|| Error::tensor(name, "there is nothing to put together"))?;
                match first {
                    $(Self::$variant(_) => {
                        let views: Option<Vec<_>> = parts.iter().map(|part| match part { Self::$variant(array) => Some(array.view()), _ => None }).collect();
                        let views = views.ok_or_else(|| Error::tensor(name, "its parts are of different types"))?;
                        ndarray::concatenate(Axis(0), &views).map(Self::$variant)
                    })*
                    Self::Text(_) => {
                        let views: Option<Vec<_>> = parts.iter().map(|part| match part { Self::Text(array) => Some(array.view()), _ => None }).collect();
                        let views = views.ok_or_else(|| Error::tensor(name, "its parts are of different types"))?;
                        ndarray::concatenate(Axis(0), &views).map(Self::Text)
                    }
                }
                .map_err(|error| Error::tensor(name, error.to_string()))
            }

            /// Its rows `range`, along the first axis. The range must lie within the tensor.
            #[must_use]
            pub fn rows(&self, range: std::ops::Range<usize>) -> Self {
                let slice = ndarray::Slice::from(range);
                match self {
                    $(Self::$variant(array) => Self::$variant(array.slice_axis(Axis(0), slice).to_owned()),)*
                    Self::Text(array) => Self::Text(array.slice_axis(Axis(0), slice).to_owned()),
                }
            }
        }

        impl ElementType {
            /// Bytes of one element; 0 for texts, which have no fixed size.
            pub fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$type>(),)* Self::Text => 0 }
            }

            pub(crate) fn from_ort(element: TensorElementType) -> Option<Self> {
                match element { $(TensorElementType::$ort => Some(Self::$variant),)* TensorElementType::String => Some(Self::Text), _ => None }
            }
        }

        /// A value's type, shape and elements as little-endian bytes: one copy out of the runtime's memory.
        pub(crate) fn bytes_of(value: &DynValue) -> Result<(ElementType, Vec<usize>, Vec<u8>), ort::Error> {
            Ok(match value.dtype().tensor_type() {
                $(Some(TensorElementType::$ort) => {
                    let view = value.try_extract_array::<$type>()?;
                    let bytes = match view.as_slice() {
                        Some(values) => <$type>::slice_bytes(values),
                        None => <$type>::bytes_of(&view.to_owned()),
                    };
                    (ElementType::$variant, view.shape().to_vec(), bytes)
                })*
                Some(TensorElementType::String) => {
                    let texts = Tensor::Text(value.try_extract_string_array()?);
                    (ElementType::Text, texts.shape().to_vec(), texts.to_le_bytes())
                }
                _ => return Err(ort::Error::new(format!("tensors of type {} are not supported", value.dtype()))),
            })
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

    /// Its first row, again and again: the same tensor with so many rows.
    pub(crate) fn repeated(&self, rows: usize) -> Result<Self, Error> {
        if self.shape().first().is_none_or(|rows| *rows == 0) {
            return Err(Error::tensor("golden input", "it has no rows to repeat"));
        }
        let row = self.rows(0..1);
        Self::concatenate("golden input", &vec![&row; rows])
    }
}

/// Texts from their bytes: each after its length in four bytes.
fn texts(name: &str, shape: &[usize], count: Option<usize>, mut bytes: &[u8]) -> Result<Tensor, Error> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((text, rest)) = rest.split_at_checked(length) else {
            return Err(Error::tensor(name, format!("element {} says it has {length} bytes, {} are left", texts.len(), rest.len())));
        };
        let text = std::str::from_utf8(text).map_err(|error| Error::tensor(name, format!("element {} is not UTF-8: {error}", texts.len())))?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    if !bytes.is_empty() || count != Some(texts.len()) {
        return Err(Error::tensor(name, format!("{} texts do not fill the shape {shape:?}", texts.len())));
    }
    ArrayD::from_shape_vec(IxDyn(shape), texts).map(Tensor::Text).map_err(|error| Error::tensor(name, error.to_string()))
}

/// Elements to and from their little-endian bytes.
trait LittleEndian: Clone {
    fn slice_bytes(values: &[Self]) -> Vec<u8>;
    fn bytes_of(array: &ArrayD<Self>) -> Vec<u8> {
        array.as_standard_layout().as_slice().map(Self::slice_bytes).unwrap_or_default()
    }
    /// `bytes` holds a whole number of elements.
    fn from_bytes(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! little_endian {
    ($($type:ty)*) => {
        $(impl LittleEndian for $type {
            fn slice_bytes(values: &[Self]) -> Vec<u8> {
                // As they lie in memory, where that is little-endian: everywhere but on exotic machines.
                if cfg!(target_endian = "little") {
                    return bytemuck::cast_slice(values).to_vec();
                }
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                if cfg!(target_endian = "little") {
                    return bytemuck::pod_collect_to_vec(bytes);
                }
                let (elements, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                elements.iter().map(|element| Self::from_le_bytes(*element)).collect()
            }
        })*
    };
}

little_endian! { u8 u16 u32 u64 i8 i16 i32 i64 f16 bf16 f32 f64 }

impl LittleEndian for bool {
    fn slice_bytes(values: &[Self]) -> Vec<u8> {
        values.iter().map(|value| u8::from(*value)).collect()
    }
    fn from_bytes(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|byte| *byte != 0).collect()
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
    fn texts_round_trip_and_broken_ones_are_refused() {
        let tensor = Tensor::Text(ArrayD::from_shape_vec(IxDyn(&[2]), vec!["é".to_owned(), String::new()]).unwrap());
        let bytes = tensor.to_le_bytes();
        assert_eq!(bytes, [2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0, 0]);
        assert_eq!(Tensor::from_le_bytes("x", ElementType::Text, &[2], &bytes).unwrap(), tensor);
        for (shape, bytes) in
            [(&[3usize][..], &bytes[..]), (&[1], &[9, 0, 0, 0, 65]), (&[1], &[1, 0, 0, 0, 0xff]), (&[1], &[0, 0]), (&[usize::MAX], &[])]
        {
            assert!(Tensor::from_le_bytes("x", ElementType::Text, shape, bytes).is_err(), "{shape:?} {bytes:?}");
        }
    }

    #[test]
    fn rows_come_apart_and_together_again() {
        let whole = Tensor::from(ArrayD::from_shape_vec(IxDyn(&[3, 2]), (0..6).collect::<Vec<i64>>()).unwrap());
        let (head, tail) = (whole.rows(0..1), whole.rows(1..3));
        assert_eq!(tail.shape(), [2, 2]);
        assert_eq!(Tensor::concatenate("x", &[&head, &tail]).unwrap(), whole);
        let other = Tensor::from(ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![0i64; 3]).unwrap());
        assert!(Tensor::concatenate("x", &[&head, &other]).is_err());
        assert_eq!(whole.repeated(5).unwrap().shape(), [5, 2]);
    }

    #[test]
    fn wrong_byte_counts_are_refused() {
        assert!(Tensor::from_le_bytes("x", ElementType::I64, &[2], &[0; 15]).is_err());
        assert!(Tensor::from_le_bytes("x", ElementType::F32, &[usize::MAX, usize::MAX], &[]).is_err());
    }
}
