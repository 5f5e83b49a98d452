//! Stanzas of `Field: value` lines, as Debian's control files are written (deb822(5)).
//!
//! Values are slices of the text. A line that is neither field, continuation nor comment is an error, and so is a
//! field that a stanza has twice.

/// One stanza: fields in the order of the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stanza<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Stanza<'t> {
    /// Names and values.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'t str, &'t str)> + '_ {
        self.0.iter().copied()
    }

    /// The value of `name`, continuation lines included, without outer white space. Names ignore case.
    pub(crate) fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The stanzas of `text`; an error is the line that is not well formed.
pub(crate) fn stanzas(text: &str) -> impl Iterator<Item = Result<Stanza<'_>, &str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\n', '\r']);
        if rest.is_empty() {
            return None;
        }
        let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
        let (stanza, after) = rest.split_at(end);
        rest = after;
        Some(parse(stanza))
    })
    .filter(|stanza| !matches!(stanza, Ok(Stanza(fields)) if fields.is_empty()))
}

fn parse(text: &str) -> Result<Stanza<'_>, &str> {
    let mut stanza = Stanza::default();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = field_length(rest);
        let field = rest.get(..length).unwrap_or_default();
        at += length;
        if field.starts_with('#') {
            continue;
        }
        let first_line = field.lines().next().unwrap_or_default();
        let (name, value) = field.split_once(':').ok_or(first_line)?;
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        if name.is_empty() || !name.chars().all(plain) || stanza.get(name).is_some() {
            return Err(first_line);
        }
        stanza.0.push((name, value.trim()));
    }
    Ok(stanza)
}

/// The length of the first field of `text`, with the lines that continue it: those that begin with white space.
fn field_length(text: &str) -> usize {
    let comment = text.starts_with('#');
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    let continued = |at: usize| !comment && text.get(at..).is_some_and(|next| next.starts_with([' ', '\t']));
    ends.into_iter().find(|at| !continued(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_split_and_continued() {
        let text = "\nA: 1\n# note\nB:\n x\n y\n\n\nA: 2\r\n";
        let stanzas: Vec<_> = stanzas(text).collect::<Result<_, _>>().unwrap();
        assert_eq!(stanzas.len(), 2);
        assert_eq!((stanzas[0].get("a"), stanzas[0].get("B"), stanzas[0].get("C")), (Some("1"), Some("x\n y"), None));
        assert_eq!(stanzas[1].get("A"), Some("2"));
    }

    #[test]
    fn what_is_not_a_field_is_an_error() {
        for (text, bad) in [("A: 1\njunk\n", "junk"), (" x\n", " x"), ("A: 1\nA: 2\n", "A: 2"), (": x\n", ": x")] {
            assert_eq!(stanzas(text).next(), Some(Err(bad)), "{text:?}");
        }
    }
}
