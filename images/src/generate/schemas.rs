//! Compiled GSettings schemas: what `glib-compile-schemas` would have made of the packages' `*.gschema.xml`.
//!
//! Without them the toolkit ends the browser when its first file dialogue opens. What is met in a schema and not known
//! here is an error.

use super::gvdb::{self, Item, Table, Value};
use crate::{
    error::Error,
    tree::{Node, Tree, matches},
};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use std::collections::BTreeMap;

const PATTERN: &str = "/usr/share/glib-2.0/schemas/*.gschema.xml";

/// The bytes of `gschemas.compiled` for every schema in `packages`.
pub(super) fn compile(packages: &Tree) -> Result<Vec<u8>, Error> {
    let mut root = Table::new();
    for (path, entry) in packages.iter().filter(|(path, _)| matches(PATTERN, path)) {
        if let Node::File { data, .. } = &entry.node {
            let text = String::from_utf8_lossy(data);
            let schemas = read(&text).map_err(|reason| Error::Package { package: path.to_string(), reason })?;
            root.extend(schemas);
        }
    }
    Ok(gvdb::write(&root))
}

/// What one file defines, as far as it was read.
#[derive(Default)]
struct Schemas {
    enums: BTreeMap<String, Vec<(String, u32)>>,
    done: Table,
    /// The enumeration, schema and key that are being read.
    current_enum: String,
    schema: Option<(String, Table)>,
    key: Option<Key>,
    text: String,
}

#[derive(Default)]
struct Key {
    name: String,
    kind: String,
    enumeration: Option<String>,
    default: Option<String>,
}

fn read(text: &str) -> Result<Table, String> {
    let mut reader = Reader::from_str(text);
    let mut schemas = Schemas::default();
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(tag) => schemas.open(&tag)?,
            Event::Empty(tag) => {
                schemas.open(&tag)?;
                schemas.close(tag.name().as_ref())?;
            }
            Event::End(tag) => schemas.close(tag.name().as_ref())?,
            Event::Text(text) => schemas.text = text.decode().map_err(|e| e.to_string())?.trim().to_owned(),
            Event::GeneralRef(reference) => return Err(format!("the reference {reference:?} in a schema is not known")),
            Event::Eof => return Ok(schemas.done),
            Event::CData(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

impl Schemas {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        let attributes = attributes(tag)?;
        let get = |name: &str| attributes.get(name).cloned();
        let need = |name: &str| get(name).ok_or_else(|| format!("an element of a schema has no {name}"));
        self.text.clear();
        match tag.name().as_ref() {
            b"enum" => self.current_enum = need("id")?,
            b"value" => {
                let value = need("value")?.parse().map_err(|_| "a value of an enumeration is not a number")?;
                self.enums.entry(self.current_enum.clone()).or_default().push((need("nick")?, value));
            }
            b"schema" if get("extends").is_none() => {
                let path = get("path").map(|path| (".path".to_owned(), Item::Value(Value::Text(path))));
                self.schema = Some((need("id")?, path.into_iter().collect()));
            }
            b"key" => {
                let kind = get("type").or_else(|| get("enum").map(|_| "s".to_owned()));
                self.key = Some(Key { name: need("name")?, kind: kind.ok_or("a key has no type")?, enumeration: get("enum"), default: None });
            }
            b"default" if attributes.is_empty() => {}
            b"schemalist" | b"summary" | b"description" => {}
            other => return Err(format!("the element {:?} in a schema is not known", String::from_utf8_lossy(other))),
        }
        Ok(())
    }

    fn close(&mut self, name: &[u8]) -> Result<(), String> {
        match name {
            b"default" => self.key.as_mut().ok_or("a default is in no key")?.default = Some(self.text.clone()),
            b"key" => {
                let key = self.key.take().ok_or("a key ends before it begins")?;
                let item = self.item(&key).map_err(|reason| format!("key {}: {reason}", key.name))?;
                self.schema.as_mut().ok_or("a key is in no schema")?.1.insert(key.name, item);
            }
            b"schema" => {
                let (id, table) = self.schema.take().ok_or("a schema ends before it begins")?;
                self.done.insert(id, Item::Table(table));
            }
            _ => {}
        }
        Ok(())
    }

    /// The default, and for an enumeration its nicks.
    fn item(&self, key: &Key) -> Result<Item, String> {
        let default = parse(&key.kind, key.default.as_deref().ok_or("it has no default")?)?;
        let mut members = vec![default];
        if let Some(enumeration) = &key.enumeration {
            let nicks = self.enums.get(enumeration).ok_or("its enumeration is not defined")?;
            let words = nicks.iter().flat_map(|(nick, value)| nick_words(nick, *value)).collect();
            members.push(Value::Tuple(vec![Value::Byte(b'e'), Value::Words(words)]));
        }
        Ok(Item::Value(Value::Tuple(members)))
    }
}

fn attributes(tag: &BytesStart<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let value = attribute.unescape_value().map_err(|e| e.to_string())?.into_owned();
        found.insert(String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value);
    }
    Ok(found)
}

/// How GLib keeps a nick (its strinfo.c): the value, then words that begin with 0xff, hold the text with a zero after it, and
/// end with 0xff; at least two.
fn nick_words(nick: &str, value: u32) -> Vec<u32> {
    let count = ((nick.len() + 6) / 4).max(2);
    let mut bytes = vec![0; 4 * count];
    let framed = [&[0xff], nick.as_bytes()].concat();
    bytes.iter_mut().zip(framed).for_each(|(place, byte)| *place = byte);
    if let Some(last) = bytes.last_mut() {
        *last = 0xff;
    }
    let words = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok().map(u32::from_le_bytes));
    [value].into_iter().chain(words).collect()
}

/// Reads a value of the type `kind` in GVariant's text form.
fn parse(kind: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not a value of type {kind}");
    let text_value = || {
        let quoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
        quoted.filter(|inner| !inner.contains(['\\', '"', '\''])).map(|inner| Value::Text(inner.to_owned()))
    };
    match kind {
        "b" => text.parse().map(Value::Bool).map_err(|_| wrong()),
        "i" => text.parse().map(Value::Int).map_err(|_| wrong()),
        "u" => text.parse().map(Value::Uint).map_err(|_| wrong()),
        "d" => text.parse().map(Value::Double).map_err(|_| wrong()),
        "s" => text_value().ok_or_else(wrong),
        _ if text == "[]" => kind.strip_prefix('a').map(|element| Value::Empty(element.to_owned())).ok_or_else(wrong),
        _ => parse_tuple(kind, text).ok_or_else(wrong),
    }
}

/// A tuple of basic types.
fn parse_tuple(kind: &str, text: &str) -> Option<Value> {
    let kinds = kind.strip_prefix('(')?.strip_suffix(')')?;
    let members: Vec<&str> = text.strip_prefix('(')?.strip_suffix(')')?.split(',').map(str::trim).collect();
    if kinds.len() != members.len() {
        return None;
    }
    let parsed = kinds.chars().zip(members).map(|(kind, text)| parse(&kind.to_string(), text).ok());
    parsed.collect::<Option<_>>().map(Value::Tuple)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Mode, TreePath};
    use std::{process::Command, sync::Arc};

    const SCHEMA: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <!-- a comment --><schemalist>
        <enum id='t.Mode'><value nick='path-bar' value='0'/><value nick='a' value='1'/></enum>
        <schema id='t.Test' path='/t/test/'>
          <key name='uri' type='s'><default>""</default><summary>Text</summary></key>
          <key name='mode' enum='t.Mode'><default>'a'</default></key>
          <key name='on' type='b'><default>true</default></key>
          <key name='size' type='(ii)'><default>(-1, 7)</default></key>
          <key name='colour' type='(bdddd)'><default>(false,1.0,1.0,1.0,0.5)</default></key>
          <key name='colours' type='a(dddd)'><default>[]</default></key>
          <key name='width' type='i'><default>148</default></key>
        </schema><schema id='t.Other'><key name='n' type='u'><default>3</default></key></schema></schemalist>"#;

    fn tree(text: &str) -> Tree {
        let mut tree = Tree::default();
        let path = TreePath::new("usr/share/glib-2.0/schemas/t.gschema.xml").unwrap();
        tree.insert(path, Node::File { mode: Mode::Plain, data: Arc::from(text.as_bytes()) }, 0);
        tree
    }

    #[test]
    fn glib_reads_what_is_compiled() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gschemas.compiled"), compile(&tree(SCHEMA)).unwrap()).unwrap();
        let get = |key: &str| {
            let mut command = Command::new("gsettings");
            command.arg("--schemadir").arg(dir.path()).args(["get", "t.Test", key]).env("GSETTINGS_BACKEND", "memory");
            command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        for (key, expected) in [("uri", "''"), ("mode", "'a'"), ("on", "true"), ("size", "(-1, 7)"), ("colour", "(false, 1.0, 1.0, 1.0, 0.5)"), ("colours", "@a(dddd) []"), ("width", "148")] {
            match get(key) {
                Ok(value) => assert_eq!(value, expected, "{key}"),
                Err(_) => return crate::testing::skip("gsettings"),
            }
        }
    }

    #[test]
    fn nicks_are_kept_as_glib_keeps_them() {
        assert_eq!(nick_words("a", 1), [1, 0x0000_61ff, 0xff00_0000]);
        assert_eq!(nick_words("path-bar", 0), [0, 0x7461_70ff, 0x6162_2d68, 0xff00_0072]);
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (from, to, expected) in [
            ("<schema id='t.Other'>", "<schema id='t.Other' extends='t.Test'>", "schema"),
            ("<default>3</default>", "<default>three</default>", "key n"),
            ("<default>3</default>", "<default l10n='messages'>3</default>", "default"),
            ("<default>3</default>", "<default>3</default><range min='1' max='2'/>", "range"),
            ("<default>3</default>", "", "no default"),
            ("enum='t.Mode'", "enum='t.None'", "not defined"),
        ] {
            let error = compile(&tree(&SCHEMA.replace(from, to))).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("t.gschema.xml"), "{expected}: {error}");
        }
    }
}
