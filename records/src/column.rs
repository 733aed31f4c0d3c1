//! What a column of a record can hold: scalar types, and the closed vocabularies written as strings.
//!
//! ```text
//! Rust type            column type      JSON            null is
//! String               str              string          ""
//! Option<T>            of T             of T            None
//! i32 u32              i32              number          never (Option for that)
//! i64 u64              i64              number          never
//! f64                  f64              number          never
//! bool                 bool             true / false    false
//! Option<Vec<f64>>     list of f64      array           None
//! a vocabulary enum    str              string          never
//! ```
//! [`Field`] is how the row macro asks a Rust type these questions; [`CellValue`] is a cell in transit between a row and a table.
//!
//! Source: measurement.md section 14.

use serde::{Deserialize, Serialize};

/// Storage type of a column in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    Str,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// 64-bit float.
    Float,
    /// Truth value.
    Bool,
    /// List of 64-bit floats.
    FloatList,
}

/// One cell, owned: what a table hands to a row.
#[derive(Clone, Debug, PartialEq)]
pub enum CellValue {
    /// Missing.
    Null,
    /// Text, or a word of a vocabulary.
    Str(String),
    /// Integer.
    Int(i64),
    /// Float.
    Float(f64),
    /// Truth value.
    Bool(bool),
    /// List of floats.
    Floats(Vec<f64>),
}

/// One cell, borrowed: what a row hands to a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CellRef<'a> {
    /// Missing.
    Null,
    /// Text, or a word of a vocabulary.
    Str(&'a str),
    /// Integer.
    Int(i64),
    /// Float.
    Float(f64),
    /// Truth value.
    Bool(bool),
    /// List of floats.
    Floats(&'a [f64]),
}

/// A Rust type that can be a column.
pub trait Field: Sized {
    /// Storage type in a table.
    const TYPE: ColumnType;
    /// Whether the value counts as missing, and is left out of JSON.
    fn is_null(&self) -> bool;
    /// The value as a cell.
    fn cell(&self) -> CellRef<'_>;
    /// The value from a cell; `None` when the cell is of another type or out of range.
    fn from_cell(cell: CellValue) -> Option<Self>;
}

impl Field for String {
    const TYPE: ColumnType = ColumnType::Str;
    fn is_null(&self) -> bool {
        self.is_empty()
    }
    fn cell(&self) -> CellRef<'_> {
        CellRef::Str(self)
    }
    fn from_cell(cell: CellValue) -> Option<Self> {
        match cell {
            CellValue::Str(text) => Some(text),
            CellValue::Null => Some(String::new()),
            _ => None,
        }
    }
}

impl Field for bool {
    const TYPE: ColumnType = ColumnType::Bool;
    fn is_null(&self) -> bool {
        !*self
    }
    fn cell(&self) -> CellRef<'_> {
        CellRef::Bool(*self)
    }
    fn from_cell(cell: CellValue) -> Option<Self> {
        match cell {
            CellValue::Bool(value) => Some(value),
            CellValue::Null => Some(false),
            _ => None,
        }
    }
}

impl Field for f64 {
    const TYPE: ColumnType = ColumnType::Float;
    fn is_null(&self) -> bool {
        false
    }
    fn cell(&self) -> CellRef<'_> {
        CellRef::Float(*self)
    }
    fn from_cell(cell: CellValue) -> Option<Self> {
        match cell {
            CellValue::Float(value) => Some(value),
            CellValue::Int(value) => Some(value as f64),
            _ => None,
        }
    }
}

impl Field for Vec<f64> {
    const TYPE: ColumnType = ColumnType::FloatList;
    fn is_null(&self) -> bool {
        false
    }
    fn cell(&self) -> CellRef<'_> {
        CellRef::Floats(self)
    }
    fn from_cell(cell: CellValue) -> Option<Self> {
        match cell {
            CellValue::Floats(values) => Some(values),
            _ => None,
        }
    }
}

macro_rules! integer_field {
    ($($ty:ty => $column:ident),*) => {$(
        impl Field for $ty {
            const TYPE: ColumnType = ColumnType::$column;
            fn is_null(&self) -> bool {
                false
            }
            fn cell(&self) -> CellRef<'_> {
                // Counts past i64::MAX do not occur; saturating keeps the conversion total.
                CellRef::Int(i64::try_from(*self).unwrap_or(i64::MAX))
            }
            fn from_cell(cell: CellValue) -> Option<Self> {
                match cell {
                    CellValue::Int(value) => <$ty>::try_from(value).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integer_field!(i32 => Int32, u32 => Int32, i64 => Int64, u64 => Int64);

impl<T: Field> Field for Option<T> {
    const TYPE: ColumnType = T::TYPE;
    fn is_null(&self) -> bool {
        self.is_none()
    }
    fn cell(&self) -> CellRef<'_> {
        self.as_ref().map_or(CellRef::Null, Field::cell)
    }
    fn from_cell(cell: CellValue) -> Option<Self> {
        match cell {
            CellValue::Null => Some(None),
            other => T::from_cell(other).map(Some),
        }
    }
}

/// Declares a closed vocabulary: an enum, its words, and its column behaviour, from one list.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $text)] $word),*
        }

        impl $name {
            /// Every word, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$word),*];

            /// The word as written in records.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text),* }
            }

            /// The value of a word as written in records.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$word),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Field for $name {
            const TYPE: ColumnType = ColumnType::Str;
            fn is_null(&self) -> bool {
                false
            }
            fn cell(&self) -> CellRef<'_> {
                CellRef::Str(self.as_str())
            }
            fn from_cell(cell: CellValue) -> Option<Self> {
                match cell {
                    CellValue::Str(word) => Self::parse(&word),
                    _ => None,
                }
            }
        }
    };
}

vocabulary! {
    /// Where a number comes from.
    Source {
        /// This harness measured it.
        #[default] Measured = "measured",
        /// Published by the paper.
        Paper = "paper",
        /// Taken over from another tool's output.
        Imported = "imported",
    }
}
vocabulary! {
    /// What one row is.
    RecordKind {
        /// One number of one worker, or one aggregate score of one trained model on one task.
        #[default] Sample = "sample",
        /// The score of one document.
        Document = "document",
        /// A value at one training step.
        Step = "step",
        /// Computed from other rows; names them by `derived_from`.
        Derived = "derived",
    }
}
vocabulary! {
    /// At which size a number was obtained; a table never mixes the two.
    Tier {
        /// Demonstration: tiny model, bundled documents.
        #[default] Demo = "demo",
        /// Real model and full data.
        Full = "full",
    }
}
vocabulary! {
    /// How f32 matrix products are computed.
    Numerics {
        /// Plain f32.
        #[default] F32 = "f32",
        /// Each f32 split into bf16 parts, products accumulated in f32.
        F32Split = "f32-split",
        /// bf16 operands, f32 accumulation.
        Bf16 = "bf16",
    }
}
vocabulary! {
    /// Side of a comparison.
    Arm {
        /// Reference.
        A = "A",
        /// Candidate.
        B = "B",
        /// Not part of a comparison.
        #[default] None = "none",
    }
}
vocabulary! {
    /// Which direction is an improvement.
    Better {
        /// Larger is better.
        Higher = "higher",
        /// Smaller is better.
        Lower = "lower",
        /// Neither: a property.
        #[default] None = "none",
    }
}
vocabulary! {
    /// How one number was made of its inner iterations or documents.
    InnerStat {
        /// Median of the timed iterations.
        Median = "median",
        /// Mean over documents or iterations.
        Mean = "mean",
        /// Maximum over the window.
        Max = "max",
        /// Total over the window.
        Total = "total",
        /// Counted, not sampled.
        #[default] Exact = "exact",
    }
}
vocabulary! {
    /// Which conventions a quality score follows.
    EvalProfile {
        /// The published definition.
        #[default] Canonical = "canonical",
        /// Bit for bit the reference harness, quirks included.
        Compat = "compat",
    }
}
vocabulary! {
    /// How a measurement ended.
    Status {
        /// With a value.
        #[default] Ok = "ok",
        /// With an error.
        Failed = "failed",
        /// Killed at its time limit.
        Timeout = "timeout",
        /// Ran out of memory.
        Oom = "oom",
        /// Not attempted, with a reason.
        Skipped = "skipped",
    }
}
