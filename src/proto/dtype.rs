//! The element types of ONNX tensors.

use std::fmt;

macro_rules! dtypes {
    ($($name:ident = $code:literal, $bits:literal, $text:literal;)*) => {
        /// An element type, numbered as `TensorProto.DataType`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        #[allow(missing_docs)]
        pub enum Dtype { $($name = $code,)* }

        impl Dtype {
            /// The type with this number in `TensorProto.DataType`, if it is known here.
            pub fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Bits per element in `raw_data`; 0 for strings, which have no raw form.
            pub fn bits(self) -> usize {
                match self { $(Self::$name => $bits,)* }
            }

            /// The name that ONNX's documentation uses, in lower case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

dtypes! {
    Float = 1, 32, "float";
    Uint8 = 2, 8, "uint8";
    Int8 = 3, 8, "int8";
    Uint16 = 4, 16, "uint16";
    Int16 = 5, 16, "int16";
    Int32 = 6, 32, "int32";
    Int64 = 7, 64, "int64";
    String = 8, 0, "string";
    Bool = 9, 8, "bool";
    Float16 = 10, 16, "float16";
    Double = 11, 64, "double";
    Uint32 = 12, 32, "uint32";
    Uint64 = 13, 64, "uint64";
    Complex64 = 14, 64, "complex64";
    Complex128 = 15, 128, "complex128";
    Bfloat16 = 16, 16, "bfloat16";
    Float8e4m3fn = 17, 8, "float8e4m3fn";
    Float8e4m3fnuz = 18, 8, "float8e4m3fnuz";
    Float8e5m2 = 19, 8, "float8e5m2";
    Float8e5m2fnuz = 20, 8, "float8e5m2fnuz";
    Uint4 = 21, 4, "uint4";
    Int4 = 22, 4, "int4";
    Float4e2m1 = 23, 4, "float4e2m1";
    Float8e8m0 = 24, 8, "float8e8m0";
    Uint2 = 25, 2, "uint2";
    Int2 = 26, 2, "int2";
    Float6e2m3 = 27, 6, "float6e2m3";
    Float6e3m2 = 28, 6, "float6e3m2";
}

impl Dtype {
    /// The number in `TensorProto.DataType`.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// Bytes that `elements` elements take, packed as in `raw_data`.
    pub fn bytes_for(self, elements: usize) -> usize {
        (elements * self.bits()).div_ceil(8)
    }

    /// Whether the type holds real numbers with a fraction.
    pub fn is_float(self) -> bool {
        use Dtype::*;
        matches!(self, Float | Float16 | Double | Bfloat16)
    }

    /// Whether weights have this type: real numbers, or the bytes of quantized ones.
    pub(crate) fn is_weight(self) -> bool {
        use Dtype::*;
        self.is_float()
            || matches!(self, Int8 | Uint8 | Int4 | Uint4 | Int2 | Uint2)
            || self.name().starts_with("float")
    }

    /// Whether the type holds whole numbers of at least eight bits.
    pub(crate) fn is_integer(self) -> bool {
        use Dtype::*;
        matches!(
            self,
            Uint8 | Int8 | Uint16 | Int16 | Int32 | Int64 | Uint32 | Uint64
        )
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a constant counts as parameters: real numbers, or the bytes of quantized weights.
pub fn is_weight(tensor: &super::TensorProto) -> bool {
    Dtype::from_code(tensor.data_type()).is_some_and(Dtype::is_weight)
}
