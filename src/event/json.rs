//! One pass over a JSON object, straight into the slots of the decoder; no tree is built, text is borrowed.

use crate::event::decode::{admit, wrong_type};
use crate::event::{Field, Reason, Rejection, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The values of `slots`, in their order; NULL where the object has none.
pub(super) fn read<'a>(payload: &'a [u8], slots: &[Field], tags: &[u32]) -> Result<Vec<Value<'a>>, Rejection> {
    // Once for the whole record, which is cheaper than once per string.
    let text = std::str::from_utf8(payload).map_err(|error| Rejection::new(Reason::BrokenJson, error.to_string()))?;
    let values = slots.iter().map(|_| Value::Null).collect();
    let mut object = Object { slots, tags, values, rejection: None };
    let mut json = serde_json::Deserializer::from_str(text);
    match (&mut json).deserialize_map(&mut object).and_then(|()| json.end()) {
        Ok(()) => Ok(object.values),
        Err(error) => Err(object.rejection.unwrap_or_else(|| broken(payload, &error))),
    }
}

/// Counts the brackets first: an object with fewer than `depth_max` of them cannot be too deep, and most have one.
pub(super) fn is_too_deep(payload: &[u8], depth_max: usize) -> bool {
    memchr::memchr2_iter(b'{', b'[', payload).count() > depth_max && depth(payload) > depth_max
}

/// The deepest nesting outside of strings.
fn depth(payload: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn broken(payload: &[u8], error: &serde_json::Error) -> Rejection {
    let text = error.to_string();
    if error.is_data() {
        return Rejection::new(Reason::NotAnObject, format!("the record is no JSON object: {text}"));
    }
    if text.starts_with("recursion limit exceeded") {
        return Rejection::new(Reason::TooDeep, text);
    }
    if text.starts_with("number out of range") {
        return Rejection::new(Reason::NotFinite, format!("a number is too large for a double: {text}"));
    }
    // serde_json stops at the first byte of `NaN` or at the byte after the sign of `-Infinity`.
    let line = payload.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    for back in 1..=2 {
        let token = line.get(error.column().saturating_sub(back)..).unwrap_or_default();
        let token = token.strip_prefix(b"-").unwrap_or(token);
        if ["nan", "infinity"]
            .iter()
            .any(|t| token.get(..t.len()).is_some_and(|b| b.eq_ignore_ascii_case(t.as_bytes())))
        {
            return Rejection::new(Reason::NotFinite, format!("NaN and Infinity are no JSON numbers: {text}"));
        }
    }
    Rejection::new(Reason::BrokenJson, text)
}

struct Object<'s, 'a> {
    slots: &'s [Field],
    tags: &'s [u32],
    values: Vec<Value<'a>>,
    /// What stopped the visitor, where it was not the JSON itself.
    rejection: Option<Rejection>,
}

impl<'de> Visitor<'de> for &mut Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(slot) = map.next_key_seed(Key { slots: self.slots, tags: self.tags })? {
            let Some(slot) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let field = &self.slots[slot];
            match map.next_value_seed(Slot { field })? {
                Ok(value) => self.values[slot] = value,
                Err(rejection) => {
                    self.rejection = Some(rejection);
                    return Err(A::Error::custom("refused"));
                }
            }
        }
        Ok(())
    }
}

/// Length, first and last byte of a name: nearly always enough to see that a key is not the one.
pub(super) fn tag(name: &str) -> u32 {
    match name.as_bytes() {
        [] => 0,
        [first, .., last] => ((name.len() as u32) << 16) | (u32::from(*first) << 8) | u32::from(*last),
        [only] => (1 << 16) | (u32::from(*only) << 8),
    }
}

/// Finds the slot of a key without keeping the key.
struct Key<'s> {
    slots: &'s [Field],
    tags: &'s [u32],
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        let wanted = tag(key);
        let mut candidates = self.tags.iter().zip(self.slots).enumerate();
        Ok(candidates.find(|(_, (tag, field))| **tag == wanted && field.name == key).map(|(slot, _)| slot))
    }
}

/// Reads the value of one slot. A value of the wrong type is an answer, not an error of the JSON.
struct Slot<'s> {
    field: &'s Field,
}

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    type Value = Result<Value<'de>, Rejection>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = Result<Value<'de>, Rejection>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Ok(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(admit(self.field, Value::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(admit(self.field, Value::Bigint(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(admit(self.field, i64::try_from(value).map_or(Value::Double(value as f64), Value::Bigint)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(admit(self.field, Value::Double(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(admit(self.field, Value::Text(Cow::Borrowed(value))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(admit(self.field, Value::Text(Cow::Owned(value.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err(wrong_type(self.field, "an array")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err(wrong_type(self.field, "an object")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_ignores_brackets_in_strings() {
        assert_eq!(depth(br#"{"a":[{"b":"[[[[\"[["}],"c":{}}"#), 3);
        assert!(is_too_deep(b"[[[[1]]]]", 3) && !is_too_deep(b"[[[[1]]]]", 4));
        assert!(!is_too_deep(br#"{"a":"[[[[[[["}"#, 1));
    }
}
