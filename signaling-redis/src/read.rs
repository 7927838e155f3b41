//! What comes from Redis, as any bytes: each item is readable or not by itself.

use std::{collections::HashMap, str::FromStr};

use fred::{
    bytes::Bytes,
    error::Error,
    types::{FromValue, Value},
};

/// Numbers above this one are not exact in Lua and in the scores of sorted sets, so none of ours is.
pub(crate) const MAX_NUMBER: u64 = 1 << 53;

/// A hash.
#[derive(Debug, Default)]
pub(crate) struct Fields(HashMap<Bytes, Bytes>);

impl Fields {
    /// A field's value; none if it is missing or no UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.raw(name)?).ok()
    }

    /// A field's value as it is; none if it is missing.
    pub(crate) fn raw(&self, name: &str) -> Option<&Bytes> {
        self.0.get(name.as_bytes())
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromValue for Fields {
    fn from_value(value: Value) -> Result<Self, Error> {
        value.convert().map(Self)
    }
}

impl<N: Into<String>> FromIterator<(N, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, String)>>(fields: I) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.into().into(), value.into()));
        Self(fields.collect())
    }
}

/// What was read of a list: its items, and the names of the members or fields that cannot be read.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) items: Vec<T>,
    pub(crate) unreadable: Vec<Bytes>,
}

impl<T> Read<T> {
    /// Reads each member.
    pub(crate) fn members(members: Vec<Bytes>, parse: impl Fn(&str) -> Option<T>) -> Self {
        let mut read = Self { items: Vec::with_capacity(members.len()), unreadable: Vec::new() };
        for member in members {
            match std::str::from_utf8(&member).ok().and_then(&parse) {
                Some(item) => read.items.push(item),
                None => read.unreadable.push(member),
            }
        }
        read
    }

    /// Reads each field for which `parse` says something by its name and value.
    pub(crate) fn fields<'a>(
        fields: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>,
        parse: impl Fn(&'a [u8], &'a [u8]) -> Option<Result<T, Unreadable>>,
    ) -> Self {
        let mut read = Self { items: Vec::new(), unreadable: Vec::new() };
        for (name, value) in fields {
            match parse(name, value) {
                Some(Ok(item)) => read.items.push(item),
                Some(Err(Unreadable)) => read.unreadable.push(name.clone()),
                None => {}
            }
        }
        read
    }
}

/// That an item is none that a version of this library writes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no version of this library writes this")]
pub(crate) struct Unreadable;

/// A value as this library writes it: scripts compare texts, so that `07` is not 7.
pub(crate) fn exact<T: FromStr + ToString>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<T>().ok().filter(|value| value.to_string() == text)
}

/// A number up to [`MAX_NUMBER`].
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    exact(text).filter(|number| *number <= MAX_NUMBER)
}
