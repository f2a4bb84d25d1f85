//! TOML documents and the types that are read from them.
//!
//! serde writes the code that reads a type once for each kind of reader, and the crate `toml` has several for each type
//! (plain, with places, dates). Here is one, over the parsed document, so that reading is built once for each type;
//! and what an experiment file does not know (dates, numbers beyond 64 bits) is not built at all.

use std::ops::Range;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A choice that is an empty table.
pub const NO_CHOICE: &str = "a choice is missing here";
/// A choice with several keys.
pub const TWO_CHOICES: &str = "more than one choice is given here";

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// In words.
    pub message: String,
    /// Bytes of the text, where it has a place.
    pub span: Option<Range<usize>>,
}

/// Reads a type from a parsed document.
///
/// # Errors
/// The first mistake: an unknown key, a missing one, or a value of the wrong type.
pub fn read<'de, T: Deserialize<'de>>(document: &'de Spanned<DeTable<'de>>) -> Result<T, Mistake> {
    T::deserialize(Table { entries: document.get_ref(), span: document.span() })
}

/// Reads a type from a text.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct File {
///     steps: u32,
/// }
/// let file: File = ransnn::document::parse("steps = 8").expect("it is right");
/// assert_eq!(file.steps, 8);
/// let mistake = ransnn::document::parse::<File>("steps = -1").expect_err("it is negative");
/// assert_eq!(mistake.span, Some(8..10));
/// ```
///
/// # Errors
/// The first mistake, of the syntax or as in [`read`].
pub fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Mistake> {
    read(&DeTable::parse(text).map_err(|error| Mistake::from(&error))?)
}

impl Mistake {
    /// Gives it a place, unless it has a more exact one already.
    fn at(mut self, span: Range<usize>) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

impl From<&toml::de::Error> for Mistake {
    fn from(error: &toml::de::Error) -> Self {
        Self { message: error.message().trim_end_matches('.').into(), span: error.span() }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl serde::de::Error for Mistake {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), span: None }
    }
}

type Entry<'de> = (&'de Spanned<DeString<'de>>, &'de Spanned<DeValue<'de>>);

/// A table of the document.
struct Table<'de> {
    entries: &'de DeTable<'de>,
    span: Range<usize>,
}

/// A value of the document.
#[derive(Clone, Copy)]
struct Value<'de>(&'de Spanned<DeValue<'de>>);

impl<'de> Value<'de> {
    fn unexpected(self) -> Unexpected<'de> {
        match self.0.get_ref() {
            DeValue::String(text) => Unexpected::Str(text),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Unexpected::Signed(number),
                Err(_) => Unexpected::Other("a whole number beyond 64 bits"),
            },
            DeValue::Float(number) => Unexpected::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Unexpected::Bool(*value),
            DeValue::Datetime(_) => Unexpected::Other("a date"),
            DeValue::Array(_) => Unexpected::Seq,
            DeValue::Table(_) => Unexpected::Map,
        }
    }

    fn wrong(self, expected: &dyn Expected) -> Mistake {
        Mistake::invalid_type(self.unexpected(), expected).at(self.0.span())
    }

    fn table(self) -> Option<Table<'de>> {
        match self.0.get_ref() {
            DeValue::Table(entries) => Some(Table { entries, span: self.0.span() }),
            _ => None,
        }
    }

    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let span = self.0.span();
        match self.0.get_ref() {
            DeValue::Integer(number) => {
                let (digits, radix) = (number.as_str(), number.radix());
                match (i64::from_str_radix(digits, radix), u64::from_str_radix(digits, radix)) {
                    (Ok(number), _) => visitor.visit_i64(number),
                    (_, Ok(number)) => visitor.visit_u64(number),
                    _ => Err(Mistake::custom("integer number overflowed")),
                }
            }
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(value) if value.is_finite() || number.as_str().contains(['i', 'n']) => {
                    visitor.visit_f64(value)
                }
                _ => Err(Mistake::custom("floating-point number overflowed")),
            },
            _ => Err(self.wrong(&visitor)),
        }
        .map_err(|mistake: Mistake| mistake.at(span))
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.get_ref() {
            DeValue::String(text) => {
                visitor.visit_borrowed_str(text).map_err(|mistake: Mistake| mistake.at(self.0.span()))
            }
            _ => Err(self.wrong(&visitor)),
        }
    }
}

/// Numbers of all widths are read alike: visitors look at the range.
macro_rules! alike {
    ($how:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            self.$how(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.get_ref() {
            DeValue::String(_) => self.text(visitor),
            DeValue::Integer(_) | DeValue::Float(_) => self.number(visitor),
            DeValue::Boolean(_) => self.deserialize_bool(visitor),
            DeValue::Datetime(_) => Err(self.wrong(&visitor)),
            DeValue::Array(_) => self.deserialize_seq(visitor),
            DeValue::Table(_) => self.deserialize_map(visitor),
        }
    }

    alike!(number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);
    alike!(text: deserialize_char deserialize_str deserialize_string deserialize_identifier);
    alike!(deserialize_any: deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_ignored_any);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.get_ref() {
            DeValue::Boolean(value) => {
                visitor.visit_bool(*value).map_err(|mistake: Mistake| mistake.at(self.0.span()))
            }
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.get_ref() {
            DeValue::Array(values) => visitor
                .visit_seq(Elements(values.iter()))
                .map_err(|mistake: Mistake| mistake.at(self.0.span())),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.table() {
            Some(table) => table.deserialize_any(visitor),
            None => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    /// A choice: its name, or a table with its name as the only key.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let span = self.0.span();
        let choice = match self.0.get_ref() {
            DeValue::String(name) => Choice { name, place: span.clone(), content: None },
            DeValue::Table(entries) => {
                let mut entries = entries.iter();
                match (entries.next(), entries.next()) {
                    (Some((name, content)), None) => {
                        Choice { name: name.get_ref(), place: name.span(), content: Some(Value(content)) }
                    }
                    (None, _) => return Err(Mistake::custom(NO_CHOICE).at(span)),
                    _ => return Err(Mistake::custom(TWO_CHOICES).at(span)),
                }
            }
            _ => return Err(self.wrong(&"a name or a table")),
        };
        visitor.visit_enum(choice).map_err(|mistake: Mistake| mistake.at(span))
    }
}

impl<'de> Deserializer<'de> for Table<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let entries = Entries { rest: self.entries.iter(), value: None };
        visitor.visit_map(entries).map_err(|mistake: Mistake| mistake.at(self.span))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The entries of a table, one behind the other.
struct Entries<'de> {
    rest: toml::map::Iter<'de, Spanned<DeString<'de>>, Spanned<DeValue<'de>>>,
    value: Option<Value<'de>>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let next: Option<Entry<'de>> = self.rest.next();
        let Some((key, value)) = next else { return Ok(None) };
        self.value = Some(Value(value));
        let name = BorrowedStrDeserializer::new(key.get_ref());
        seed.deserialize(name).map(Some).map_err(|mistake: Mistake| mistake.at(key.span()))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(|mistake| mistake.at(value.0.span())),
            None => Err(Mistake::custom("a value was asked for before its key")),
        }
    }
}

/// The elements of a list.
struct Elements<'de>(std::slice::Iter<'de, Spanned<DeValue<'de>>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        self.0.next().map(|value| seed.deserialize(Value(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// One of several, with what it holds.
struct Choice<'de> {
    name: &'de str,
    place: Range<usize>,
    content: Option<Value<'de>>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mistake> {
        let name = BorrowedStrDeserializer::new(self.name);
        match seed.deserialize(name) {
            Ok(variant) => Ok((variant, self)),
            Err(mistake) => Err(Mistake::at(mistake, self.place)),
        }
    }
}

impl<'de> Choice<'de> {
    fn content(&self, expected: &str) -> Result<Value<'de>, Mistake> {
        self.content
            .ok_or_else(|| Mistake::invalid_type(Unexpected::UnitVariant, &expected).at(self.place.clone()))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        match self.content.map(|content| (content, content.table())) {
            None => Ok(()),
            Some((_, Some(table))) if table.entries.is_empty() => Ok(()),
            Some((content, _)) => Err(content.wrong(&"an empty table")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mistake> {
        seed.deserialize(self.content("newtype variant")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.content("tuple variant")?.deserialize_seq(visitor)
    }

    /// Keys that the choice does not know are mistakes even where the type would pass over them.
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let content = self.content("struct variant")?;
        if let Some(table) = content.table() {
            let known = |key: &DeString<'_>| fields.contains(&key.as_ref());
            if let Some((key, _)) = table.entries.iter().find(|(key, _)| !known(key.get_ref())) {
                return Err(Mistake::unknown_field(key.get_ref(), fields).at(key.span()));
            }
        }
        content.deserialize_map(visitor)
    }
}

/// The text of a value that is a table.
///
/// # Errors
/// What TOML has no words for, such as a list with holes.
pub fn text<T: Serialize>(value: &T) -> Result<String, toml::ser::Error> {
    toml::to_string(&toml::Table::try_from(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        count: u8,
        #[serde(default)]
        rate: Option<f32>,
        #[serde(default)]
        pair: Vec<(String, f64)>,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        #[default]
        Plain,
        Scaled {
            factor: f64,
        },
        Named(String),
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "count = 0xff\nrate = 2\npair = [[\"a\", -1], [\"b\", inf]]\nkind.scaled.factor = 1e-3";
        let file: File = parse(text).expect("right");
        let pair = vec![("a".into(), -1.0), ("b".into(), f64::INFINITY)];
        assert_eq!(file, File { count: 255, rate: Some(2.0), pair, kind: Kind::Scaled { factor: 1e-3 } });
        let again = super::text(&file).expect("TOML");
        assert_eq!(parse::<File>(&again).as_ref(), Ok(&file), "{again}");
        for (text, kind) in [
            ("kind = 'plain'", Kind::Plain),
            ("kind = { plain = {} }", Kind::Plain),
            ("kind.named = 'x'", Kind::Named("x".into())),
        ] {
            assert_eq!(parse::<File>(&format!("count = 1\n{text}")).map(|file| file.kind), Ok(kind));
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, place, message) in [
            ("rate = 1", "", "missing field `count`"),
            ("count = 1.5", "1.5", "invalid type: floating point `1.5`, expected u8"),
            ("count = 256", "256", "invalid value: integer `256`, expected u8"),
            ("count = 99999999999999999999", "99999999999999999999", "integer number overflowed"),
            ("count = 1\nrate = 1e999", "1e999", "floating-point number overflowed"),
            ("count = 1\nrate = true", "true", "invalid type: boolean `true`, expected f32"),
            ("count = 1\nrate = 1979-05-27", "1979-05-27", "invalid type: a date, expected f32"),
            ("count = 1\nrtae = 1", "rtae", "unknown field `rtae`, expected one of"),
            ("count = 1\npair = [['a', 'b']]", "'b'", "invalid type: string \"b\", expected f64"),
            ("count = 1\npair = [['a']]", "['a']", "invalid length 1, expected a tuple of size 2"),
            ("count = 1\nkind = {}", "{}", NO_CHOICE),
            ("count = 1\nkind = { plain = {}, named = 'x' }", "{ plain = {}, named = 'x' }", TWO_CHOICES),
            ("count = 1\nkind = 3", "3", "invalid type: integer `3`, expected a name or a table"),
            ("count = 1\nkind = 'palin'", "'palin'", "unknown variant `palin`, expected one of"),
            ("count = 1\nkind.palin = 1", "palin", "unknown variant `palin`, expected one of"),
            ("count = 1\nkind = 'scaled'", "'scaled'", "invalid type: unit variant, expected struct variant"),
            ("count = 1\nkind.plain.x = 1", "plain", "invalid type: map, expected an empty table"),
            (
                "count = 1\nkind.scaled = { fcator = 1 }",
                "fcator",
                "unknown field `fcator`, expected `factor`",
            ),
            ("count = 1\nkind.scaled = { }", "{ }", "missing field `factor`"),
            ("count = ", "", "string values must be quoted"),
        ] {
            let mistake = parse::<File>(text).expect_err(text);
            let place_found = &text[mistake.span.clone().expect(text)];
            assert!(mistake.message.starts_with(message), "{text}: {}", mistake.message);
            assert_eq!(place_found, place, "{text}: {}", mistake.message);
        }
    }
}
