//! Reading the members of one JSON object strictly: no name twice, and not more than a few dozen.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// More members than any honest header or key has; bounds the search for duplicates.
pub(crate) const MAX_MEMBERS: usize = 64;

/// What is wanted of an object's members.
pub(crate) trait Members: Default {
    /// Takes the value of the member `name` from `map`, exactly once.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// An object read strictly. A fault does not stop the parser, so that broken JSON is always told as such.
#[derive(Debug)]
pub(crate) struct Object<T> {
    pub(crate) members: T,
    pub(crate) fault: Option<MembersFault>,
}

impl<T> Object<T> {
    /// The members, where nothing was wrong with them.
    pub(crate) fn accept(self) -> Result<T, MembersFault> {
        match self.fault {
            None => Ok(self.members),
            Some(fault) => Err(fault),
        }
    }
}

/// Why the members of an object are refused although it is JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MembersFault {
    #[error("the member {0} is there twice")]
    Duplicate(String),
    #[error("it has more than {MAX_MEMBERS} members")]
    TooMany,
}

impl<'de, T: Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Members> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
        let mut members = T::default();
        let mut fault = None;
        let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(8);
        while let Some(Text(name)) = map.next_key()? {
            if fault.is_some() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if seen.contains(&name) {
                fault = Some(MembersFault::Duplicate(crate::excerpt(&name)));
                map.next_value::<IgnoredAny>()?;
            } else if seen.len() == MAX_MEMBERS {
                fault = Some(MembersFault::TooMany);
                map.next_value::<IgnoredAny>()?;
            } else {
                members.take(&name, &mut map)?;
                seen.push(name);
            }
        }
        Ok(Object { members, fault })
    }
}

/// A string that stays where it is unless it has escapes.
#[derive(serde::Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
