//! Writing a GVDB file: the hash table on disk in which GLib looks settings up (GLib's gvdb-format.h), and the serialised
//! GVariant values in it (GVariant specification 1.0).
//!
//! Only what compiled settings schemas hold can be expressed; all numbers are little-endian.

use std::collections::BTreeMap;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    Int(i32),
    Uint(u32),
    Double(f64),
    Text(String),
    Tuple(Vec<Value>),
    /// An array without elements; of which type they would be.
    Empty(String),
    Words(Vec<u32>),
}

impl Value {
    /// The type string.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int(_) => "i".into(),
            Self::Uint(_) => "u".into(),
            Self::Double(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Tuple(members) => format!("({})", members.iter().map(Self::kind).collect::<String>()),
            Self::Empty(element) => format!("a{element}"),
            Self::Words(_) => "au".into(),
        }
    }

    fn alignment(&self) -> usize {
        match self {
            Self::Byte(_) | Self::Bool(_) | Self::Text(_) => 1,
            Self::Int(_) | Self::Uint(_) | Self::Words(_) => 4,
            Self::Double(_) => 8,
            Self::Tuple(members) => members.iter().map(Self::alignment).max().unwrap_or(1),
            // The largest alignment of any basic type in it.
            Self::Empty(element) if element.contains(['d', 'x', 't', 'v']) => 8,
            Self::Empty(element) if element.contains(['i', 'u', 'h']) => 4,
            Self::Empty(_) => 1,
        }
    }

    fn is_fixed(&self) -> bool {
        match self {
            Self::Text(_) | Self::Empty(_) | Self::Words(_) => false,
            Self::Tuple(members) => members.iter().all(Self::is_fixed),
            Self::Byte(_) | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) => true,
        }
    }

    fn serialise(&self) -> Vec<u8> {
        match self {
            Self::Byte(byte) => vec![*byte],
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Int(number) => number.to_le_bytes().into(),
            Self::Uint(number) => number.to_le_bytes().into(),
            Self::Double(number) => number.to_le_bytes().into(),
            Self::Text(text) => [text.as_bytes(), &[0]].concat(),
            Self::Empty(_) => Vec::new(),
            Self::Words(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Self::Tuple(members) => serialise_tuple(members, self),
        }
    }

    /// As a value of type `v`: the value, a zero, and its type.
    fn serialise_boxed(&self) -> Vec<u8> {
        [self.serialise().as_slice(), &[0], self.kind().as_bytes()].concat()
    }
}

/// Members at their alignments; then, backwards, where each member that is not the last and not of fixed size ends.
fn serialise_tuple(members: &[Value], tuple: &Value) -> Vec<u8> {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for (index, member) in members.iter().enumerate() {
        align(&mut bytes, member.alignment());
        bytes.extend(member.serialise());
        if !member.is_fixed() && index + 1 < members.len() {
            ends.push(bytes.len());
        }
    }
    if tuple.is_fixed() {
        align(&mut bytes, tuple.alignment());
        return bytes;
    }
    let width = if bytes.len() + ends.len() <= 0xff { 1 } else { 2 };
    for end in ends.iter().rev() {
        bytes.extend(end.to_le_bytes().iter().take(width));
    }
    bytes
}

fn align(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

/// A table: names, and a value or another table for each.
pub(super) type Table = BTreeMap<String, Item>;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Value(Value),
    Table(Table),
}

/// The bytes of the file whose root is `table`.
pub(super) fn write(table: &Table) -> Vec<u8> {
    // Signature "GVariant", version, options, then where the root table is.
    let mut file = b"GVariant".to_vec();
    file.extend([0; 16]);
    let root = write_table(&mut file, table);
    put(&mut file, 16, &[root.0, root.1]);
    file
}

/// Where something begins and ends.
type Span = (u32, u32);

/// A header, the buckets, the items; then what the items point to.
fn write_table(file: &mut Vec<u8>, table: &Table) -> Span {
    let count = number(table.len());
    let mut items: Vec<(u32, &String, &Item)> = table.iter().map(|(name, item)| (hash(name), name, item)).collect();
    items.sort_by_key(|(hash, name, _)| (hash % count.max(1), *name));
    align(file, 4);
    let start = file.len();
    let words = 2 + items.len() + 6 * items.len();
    file.resize(start + 4 * words, 0);
    let span = (number(start), number(file.len()));
    // No bloom filter; its shift is what GLib writes.
    put(file, start, &[5 << 27, count]);
    for bucket in 0..count {
        let first = items.iter().position(|(hash, ..)| hash % count >= bucket).unwrap_or(items.len());
        put(file, start + 8 + 4 * bucket as usize, &[number(first)]);
    }
    for (index, (hash, name, item)) in items.into_iter().enumerate() {
        let at = start + 8 + 4 * count as usize + 24 * index;
        let key = number(file.len());
        file.extend(name.bytes());
        let (kind, span) = match item {
            Item::Value(value) => (b'v', write_value(file, value)),
            Item::Table(table) => (b'H', write_table(file, table)),
        };
        // Hash, no parent, key and its size with the type above it, then where the value is.
        put(file, at, &[hash, u32::MAX, key, number(name.len()) | u32::from(kind) << 16, span.0, span.1]);
    }
    span
}

fn write_value(file: &mut Vec<u8>, value: &Value) -> Span {
    align(file, 8);
    let start = number(file.len());
    file.extend(value.serialise_boxed());
    (start, number(file.len()))
}

fn put(file: &mut [u8], at: usize, words: &[u32]) {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    file.iter_mut().skip(at).zip(bytes).for_each(|(place, byte)| *place = byte);
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Bernstein's hash over signed characters.
fn hash(name: &str) -> u32 {
    name.bytes().fold(5381, |sum: u32, byte| sum.wrapping_mul(33).wrapping_add(byte.cast_signed() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_serialised_as_the_specification_says() {
        let text = |text: &str| Value::Text(text.into());
        let cases = [
            (text("hello"), "s", b"hello\0".to_vec()),
            // The specification's example of a structure: a string, then an integer.
            (Value::Tuple(vec![text("foo"), Value::Int(-1)]), "(si)", b"foo\0\xff\xff\xff\xff\x04".to_vec()),
            (Value::Tuple(vec![Value::Int(16), Value::Bool(true)]), "(ib)", b"\x10\0\0\0\x01\0\0\0".to_vec()),
            (Value::Tuple(vec![Value::Byte(7), Value::Words(vec![1])]), "(yau)", b"\x07\0\0\0\x01\0\0\0".to_vec()),
            (Value::Empty("(dddd)".into()), "a(dddd)", vec![]),
        ];
        for (value, kind, bytes) in cases {
            assert_eq!((value.kind().as_str(), value.serialise()), (kind, bytes));
        }
    }

    #[test]
    fn the_hash_is_glibs() {
        assert_eq!((hash(""), hash("a"), hash("ab")), (5381, 177_670, 5_863_208));
    }
}
