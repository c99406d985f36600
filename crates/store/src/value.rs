//! Values, rows and statements that mean the same on every database.

use std::borrow::Cow;

use crate::{Error, Result};

/// One value to or from a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// Text.
    Text(Cow<'static, str>),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// What kind of value it is, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "integer",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Int(i64::from(flag))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Cow::Owned(text.to_owned()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer; columns are read by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Value>);

impl Row {
    /// A row of these values.
    pub const fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// The values in order.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// A number, or `None` for null.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>> {
        match self.0.get(column) {
            Some(Value::Int(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            other => Err(shape(column, "integer", other)),
        }
    }

    /// A number.
    pub fn int(&self, column: usize) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| shape(column, "integer", Some(&Value::Null)))
    }

    /// A flag stored as 0 or 1.
    pub fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    /// Text, or `None` for null. A MySQL-compatible server gives text that is compared byte by byte
    /// as bytes.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_no_text) => Err(shape(column, "text", self.0.get(column))),
            },
            other => Err(shape(column, "text", other)),
        }
    }

    /// Text.
    pub fn text(&self, column: usize) -> Result<&str> {
        self.opt_text(column)?.ok_or_else(|| shape(column, "text", Some(&Value::Null)))
    }

    /// Bytes, or `None` for null.
    pub fn opt_bytes(&self, column: usize) -> Result<Option<&[u8]>> {
        match self.0.get(column) {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) => Ok(None),
            other => Err(shape(column, "bytes", other)),
        }
    }

    /// Bytes.
    pub fn bytes(&self, column: usize) -> Result<&[u8]> {
        self.opt_bytes(column)?.ok_or_else(|| shape(column, "bytes", Some(&Value::Null)))
    }
}

fn shape(column: usize, wanted: &'static str, found: Option<&Value>) -> Error {
    Error::Shape { column, wanted, found: found.map_or("no such column", Value::kind) }
}

/// How many rows a statement of a transaction must change for the transaction to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Any number.
    Any,
    /// Exactly one: the row was there, and its guard held.
    One,
}

/// One write of a transaction, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text, with `?` placeholders.
    pub sql: Cow<'static, str>,
    /// A value per placeholder.
    pub args: Vec<Value>,
    /// What must hold for the transaction to stand.
    pub expect: Expect,
}

impl Statement {
    /// A statement that may change any number of rows.
    pub fn new(sql: impl Into<Cow<'static, str>>, args: Vec<Value>) -> Self {
        Self { sql: sql.into(), args, expect: Expect::Any }
    }

    /// A statement that must change exactly one row (a guarded update).
    pub fn one(sql: impl Into<Cow<'static, str>>, args: Vec<Value>) -> Self {
        Self { sql: sql.into(), args, expect: Expect::One }
    }
}
