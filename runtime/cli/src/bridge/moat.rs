//! What the Tor Project's circumvention service is asked, and what it answers (rdsys, `doc/moat.md`): values in, values out.
//!
//! Nothing of an answer is believed: what it calls a bridge is judged by [`super::Bridge::parse`] afterwards.

use serde::Deserialize;

/// Who is asked, unless said otherwise.
pub(super) const SERVICE: &str = "https://bridges.torproject.org/moat";
/// An answer has no more bytes. What is kept of it fits into a pipe (pipe(7)) whose reader comes when all is written.
pub(super) const LIMIT: u64 = 48 << 10;
/// No bridge's line is longer.
const MAX_LINE: usize = 2048;
/// Of what the service complains of, how much is shown.
const MAX_DETAIL: usize = 200;

/// Why an answer gives no bridges.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MoatError {
    #[error("its answer is not understood")]
    Form,
    #[error("it says {0:?}")]
    Refused(String),
    #[error("it has none of that kind, or for that country")]
    Nothing,
}

/// Below the service's address, where bridges for a country are asked for, or those for anywhere.
pub(super) const fn path(country: Option<&str>) -> &'static str {
    if country.is_some() { "circumvention/settings" } else { "circumvention/defaults" }
}

/// The question: bridges with one of `transports`.
pub(super) fn question(country: Option<&str>, transports: &[String]) -> String {
    match country {
        Some(country) => serde_json::json!({"country": country, "transports": transports}),
        None => serde_json::json!({"transports": transports}),
    }
    .to_string()
}

/// An error comes with the same status as an answer. What else there is in it is of no use here.
#[derive(Deserialize)]
struct Answer {
    settings: Option<Vec<Setting>>,
    errors: Option<Vec<Complaint>>,
}

#[derive(Deserialize)]
struct Setting {
    bridges: Bridges,
}

#[derive(Deserialize)]
struct Bridges {
    bridge_strings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Complaint {
    detail: Option<String>,
}

/// The lines of an answer, each once.
pub(super) fn lines(answer: &[u8]) -> Result<Vec<String>, MoatError> {
    let Answer { settings, errors } = serde_json::from_slice(answer).map_err(|_| MoatError::Form)?;
    if let Some(complaints) = errors {
        let detail: String = complaints.into_iter().filter_map(|complaint| complaint.detail).collect::<Vec<_>>().join("; ");
        return Err(MoatError::Refused(detail.chars().filter(|sign| matches!(sign, ' '..='~')).take(MAX_DETAIL).collect()));
    }
    let mut lines: Vec<String> = Vec::new();
    for line in settings.into_iter().flatten().filter_map(|setting| setting.bridges.bridge_strings).flatten() {
        if line.len() > MAX_LINE || !line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(MoatError::Form);
        }
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() { Err(MoatError::Nothing) } else { Ok(lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_asked_for_or_none() {
        let transports = ["obfs4".to_owned(), "snowflake".to_owned()];
        assert_eq!((path(Some("zz")), path(None)), ("circumvention/settings", "circumvention/defaults"));
        assert_eq!(question(Some("zz"), &transports), r#"{"country":"zz","transports":["obfs4","snowflake"]}"#);
        assert_eq!(question(None, &transports), r#"{"transports":["obfs4","snowflake"]}"#);
    }

    #[test]
    fn an_answer_is_its_lines() {
        let answer = br#"{"settings":[
            {"bridges":{"type":"obfs4","source":"bridgedb","bridge_strings":["obfs4 a","obfs4 b"]}},
            {"bridges":{"type":"snowflake","source":"builtin"}},
            {"bridges":{"type":"obfs4","source":"builtin","bridge_strings":["obfs4 b","obfs4 c"]}}],"country":"zz"}"#;
        assert_eq!(lines(answer).unwrap(), ["obfs4 a", "obfs4 b", "obfs4 c"]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let refused = |detail: &str| MoatError::Refused(detail.to_owned());
        let long = format!(r#"{{"settings":[{{"bridges":{{"bridge_strings":["{}"]}}}}]}}"#, "a".repeat(MAX_LINE + 1));
        for (answer, why) in [
            ("", MoatError::Form),
            ("<html>", MoatError::Form),
            ("[1]", MoatError::Form),
            (r#"{"settings":"none"}"#, MoatError::Form),
            (r#"{"settings":[{"bridges":{"bridge_strings":["a\u001b[2J"]}}]}"#, MoatError::Form),
            (r#"{"settings":[{"bridges":{"bridge_strings":["a\nb"]}}]}"#, MoatError::Form),
            (&long, MoatError::Form),
            ("{}", MoatError::Nothing),
            (r#"{"settings":null,"country":"zz"}"#, MoatError::Nothing),
            (r#"{"settings":[]}"#, MoatError::Nothing),
            (r#"{"errors":[{"code":404,"detail":"No \u001bprovider\n found","status":"x"}]}"#, refused("No provider found")),
            (r#"{"errors":[]}"#, refused("")),
        ] {
            assert_eq!(lines(answer.as_bytes()), Err(why), "{answer}");
        }
    }
}
