//! A table of file types (Shared MIME-info specification): those that a browser's image, file and print dialogues meet.
//!
//! The toolkit finds out by it what its own icons are, and stops when it cannot.

/// Type, patterns of names, and what content begins with: offset and bytes.
struct Kind(&'static str, &'static [&'static str], &'static [(u16, &'static [u8])]);

const KINDS: [Kind; 16] = [
    Kind("application/gzip", &["*.gz"], &[(0, b"\x1f\x8b")]),
    Kind("application/pdf", &["*.pdf"], &[(0, b"%PDF-")]),
    Kind("application/x-xz-compressed-tar", &["*.tar.xz", "*.txz"], &[]),
    Kind("application/zip", &["*.zip"], &[(0, b"PK\x03\x04")]),
    Kind("audio/mpeg", &["*.mp3"], &[(0, b"ID3")]),
    Kind("image/bmp", &["*.bmp"], &[(0, b"BM")]),
    Kind("image/gif", &["*.gif"], &[(0, b"GIF8")]),
    Kind("image/jpeg", &["*.jpeg", "*.jpg"], &[(0, b"\xff\xd8\xff")]),
    Kind("image/png", &["*.png"], &[(0, b"\x89PNG\r\n\x1a\n")]),
    Kind("image/svg+xml", &["*.svg"], &[(0, b"<svg"), (0, b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg")]),
    Kind("image/vnd.microsoft.icon", &["*.ico"], &[(0, b"\x00\x00\x01\x00")]),
    Kind("image/webp", &["*.webp"], &[(8, b"WEBPVP8")]),
    Kind("text/html", &["*.htm", "*.html"], &[(0, b"<!DOCTYPE html"), (0, b"<html")]),
    Kind("text/plain", &["*.txt"], &[]),
    Kind("video/mp4", &["*.mp4"], &[(4, b"ftyp")]),
    Kind("video/webm", &["*.webm"], &[(0, b"\x1a\x45\xdf\xa3")]),
];

/// The files of `/usr/share/mime`.
pub(super) fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![("globs2", globs()), ("magic", magic())]
}

fn globs() -> Vec<u8> {
    let lines = KINDS.iter().flat_map(|Kind(name, patterns, _)| patterns.iter().map(move |pattern| format!("50:{name}:{pattern}\n")));
    lines.collect::<String>().into_bytes()
}

/// `[priority:type]`, then lines of `>offset=length value`, length in two bytes, most significant first.
fn magic() -> Vec<u8> {
    let mut out = b"MIME-Magic\0\n".to_vec();
    for Kind(name, _, content) in KINDS.iter().filter(|kind| !kind.2.is_empty()) {
        out.extend(format!("[50:{name}]\n").bytes());
        for (offset, value) in *content {
            out.extend(format!(">{offset}=").bytes());
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(*value);
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_form_of_the_specification() {
        let magic = magic();
        let png = b"[50:image/png]\n>0=\x00\x08\x89PNG\r\n\x1a\n\n";
        assert!(magic.windows(png.len()).any(|window| window == png));
        assert!(String::from_utf8(globs()).unwrap().contains("50:image/png:*.png\n"));
    }
}
